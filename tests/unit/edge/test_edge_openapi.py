"""The description is valid OpenAPI 3.1 and names exactly the routes that are served."""

import re
from collections.abc import Iterator
from typing import Any

import jsonschema
import msgspec
from openapi_spec_validator import OpenAPIV31SpecValidator

from halfdrop.contracts.errors import InvalidInput
from halfdrop.contracts.patterns import normalise_prompt
from halfdrop.edge.app import API_HANDLERS
from halfdrop.edge.batch_lines import LineRequest
from halfdrop.edge.image_requests import ImageRequest, check_images
from halfdrop.edge.openapi import describe_api
from halfdrop.edge.requests import PredictionRequest, PreviewRequest, decode_body
from halfdrop.edge.schemas import BLANK_CHARACTERS, CONTROL_CHARACTERS
from halfdrop.edge.webhook_routes import WebhookAddress

BODIES: dict[str, type[msgspec.Struct]] = {
    kind.__name__: kind for kind in (PreviewRequest, PredictionRequest, WebhookAddress)
}


def test_the_document_is_valid() -> None:
    document = msgspec.json.decode(msgspec.json.encode(describe_api()))
    OpenAPIV31SpecValidator(document).validate()


def test_every_route_is_described_and_nothing_else() -> None:
    served = {
        (re.sub(r":\w+\}", "}", path), str(method).lower())
        for handler in API_HANDLERS
        for path in handler.paths
        for method in handler.http_methods
        if method in ("GET", "POST", "DELETE")
    }
    described = {(path, method) for path, operations in describe_api()["paths"].items() for method in operations}
    assert served == described


def test_examples_of_pictures_are_accepted_and_fit_their_schema() -> None:
    schemas = describe_api()["components"]["schemas"]
    body = describe_api()["paths"]["/v1/images/generations"]["post"]["requestBody"]["content"]["application/json"]
    assert len(body["examples"]) >= 3
    for example in body["examples"].values():
        assert check_images(decode_body(msgspec.json.encode(example["value"]), ImageRequest), model="house")
        jsonschema.validate(example["value"], {**schemas["ImageRequest"], "components": {"schemas": schemas}})


def test_every_operation_has_an_example_that_is_accepted_and_fits_its_schema() -> None:
    document = describe_api()
    schemas = document["components"]["schemas"]
    checked = 0
    for operations in document["paths"].values():
        for operation in operations.values():
            for parameter in operation.get("parameters", []):
                jsonschema.validate(parameter["example"], parameter["schema"])
            if "requestBody" in operation:
                if "application/jsonl" in operation["requestBody"]["content"]:
                    continue  # test_the_lines_of_the_example_of_a_batch_are_accepted_and_fit_their_schema
                content = operation["requestBody"]["content"]["application/json"]
                if "examples" in content:
                    continue  # test_examples_of_pictures_are_accepted_and_fit_their_schema
                kind = BODIES[_name(content)]
                assert decode_body(msgspec.json.encode(content["example"]), kind)
            for content in _json_contents(operation):
                if "example" in content:
                    checked += 1
                    schema = {**schemas[_name(content)], "components": {"schemas": schemas}}
                    jsonschema.validate(content["example"], schema)
    assert checked >= 8


def test_the_lines_of_the_example_of_a_batch_are_accepted_and_fit_their_schema() -> None:
    schemas = describe_api()["components"]["schemas"]
    content = describe_api()["paths"]["/v1/batches"]["post"]["requestBody"]["content"]
    assert set(content) == {"application/jsonl", "application/x-ndjson"}
    for body in content.values():
        assert len(body["example"]) >= 2
        for line in body["example"]:
            assert decode_body(msgspec.json.encode(line), LineRequest).custom_id == line["custom_id"]
            jsonschema.validate(line, {**schemas["LineRequest"], "components": {"schemas": schemas}})


def _name(content: dict[str, Any]) -> str:
    return str(content["schema"]["$ref"]).rpartition("/")[2]


def _json_contents(operation: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for described in (operation.get("requestBody", {}), *operation["responses"].values()):
        if "application/json" in described.get("content", {}):
            yield described["content"]["application/json"]


def test_the_description_says_what_this_edge_has_and_asks_for() -> None:
    document = describe_api(models=("house", "house-3"), asks_keys=True)
    assert document["security"] == [{"key": []}]
    assert document["components"]["schemas"]["PredictionInput"]["properties"]["model"]["enum"] == ["house", "house-3"]
    assert describe_api()["security"] == [{"key": []}, {}]


def test_what_is_blank_or_refused_in_a_prompt_is_what_the_schema_says() -> None:
    found = {"blank": "", "refused": ""}
    for code in (*range(0xD800), *range(0xE000, 0x110000)):
        character = chr(code)
        try:
            if not normalise_prompt("prompt", character):
                found["blank"] += character
        except InvalidInput:
            found["refused"] += character
    for characters, declared in ((found["blank"], BLANK_CHARACTERS), (found["refused"], CONTROL_CHARACTERS)):
        said = re.compile(f"[{declared}]")
        assert [c for c in characters if not said.fullmatch(c)] == []
        assert sum(1 for code in range(0x110000) if said.fullmatch(chr(code))) == len(characters)
