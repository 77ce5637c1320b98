"""The description is valid OpenAPI 3.1 and names exactly the routes that are served."""

import re

import jsonschema
import msgspec
from openapi_spec_validator import OpenAPIV31SpecValidator

from halfdrop.edge.app import API_HANDLERS
from halfdrop.edge.image_requests import ImageRequest, check_images
from halfdrop.edge.openapi import describe_api
from halfdrop.edge.requests import PredictionRequest, PreviewRequest, decode_body


def test_the_document_is_valid() -> None:
    document = msgspec.json.decode(msgspec.json.encode(describe_api()))
    OpenAPIV31SpecValidator(document).validate()


def test_every_route_is_described_and_nothing_else() -> None:
    served = {
        (re.sub(r":\w+\}", "}", path), str(method).lower())
        for handler in API_HANDLERS
        for path in handler.paths
        for method in handler.http_methods
        if method in ("GET", "POST")
    }
    described = {(path, method) for path, operations in describe_api()["paths"].items() for method in operations}
    assert served == described


def test_examples_are_accepted_and_fit_their_schemas() -> None:
    paths, schemas = describe_api()["paths"], describe_api()["components"]["schemas"]
    for path, kind in (("/v1/previews", PreviewRequest), ("/v1/predictions", PredictionRequest)):
        example = paths[path]["post"]["requestBody"]["content"]["application/json"]["example"]
        assert decode_body(msgspec.json.encode(example), kind)
        jsonschema.validate(example, {**schemas[kind.__name__], "components": {"schemas": schemas}})


def test_examples_of_pictures_are_accepted_and_fit_their_schema() -> None:
    schemas = describe_api()["components"]["schemas"]
    body = describe_api()["paths"]["/v1/images/generations"]["post"]["requestBody"]["content"]["application/json"]
    assert len(body["examples"]) >= 3
    for example in body["examples"].values():
        assert check_images(decode_body(msgspec.json.encode(example["value"]), ImageRequest), model="house")
        jsonschema.validate(example["value"], {**schemas["ImageRequest"], "components": {"schemas": schemas}})
