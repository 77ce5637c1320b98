"""A Kubernetes API in a process of its own, for tests without a cluster: `python api_server.py` prints its address.

kmock parses, discovers and answers errors. Added here is what operators stumble over: uid, resourceVersion and
generation; 409 for a stale resourceVersion and 422 for what a schema, a CEL rule or an HPA's own checks refuse; /status
and /scale apart; finalizers; JSON patches with tests; watches that go on from a resourceVersion. No controller runs.
"""

import asyncio
import copy
import datetime
import itertools
import json
import signal
import sys
from typing import Any, NoReturn

import aiohttp.web
import attrs
import jsonpatch
from crd_schema import admit, load_crds, schema_of
from kmock import KubernetesEmulator, Server
from kmock._internal.enums import action
from kmock._internal.k8s import KubernetesError

Obj = dict[str, Any]
VERBS = {"get", "list", "watch", "create", "patch", "delete"}

# Discovered by kopf before anything else; their objects are not asked for. (kmock cannot list namespaces.)
CLUSTER_WIDE = [
    ("", "v1", "namespaces", "Namespace"),
    ("apiextensions.k8s.io", "v1", "customresourcedefinitions", "CustomResourceDefinition"),
]
BUILT_IN = [  # group, version, plural, kind, subresources
    ("", "v1", "pods", "Pod", {"status"}),
    ("", "v1", "events", "Event", set()),
    ("apps", "v1", "deployments", "Deployment", {"status", "scale"}),
    ("autoscaling", "v2", "horizontalpodautoscalers", "HorizontalPodAutoscaler", {"status"}),
    ("keda.sh", "v1alpha1", "scaledobjects", "ScaledObject", {"status"}),
    ("autoscaling.x-k8s.io", "v1alpha1", "capacitybuffers", "CapacityBuffer", {"status"}),
]


def refuse(status: int, reason: str, message: str, **details: Any) -> NoReturn:
    raise KubernetesError(status=status, reason=reason, message=message, details=details or {"kind": ""})


@attrs.define(kw_only=True)
class ApiServer(KubernetesEmulator):
    """The emulator with the rules of a real API server for what it stores."""

    _store: dict[tuple[str, str], dict[tuple[str | None, str], Obj]] = attrs.field(factory=dict, init=False)
    _kinds: dict[tuple[str, str], tuple[str, str, set[str]]] = attrs.field(factory=dict, init=False)
    _schemas: dict[tuple[str, str], Obj] = attrs.field(factory=dict, init=False)
    _log: dict[tuple[str, str], list[tuple[int, Obj]]] = attrs.field(factory=dict, init=False)
    _watchers: dict[tuple[str, str], set[asyncio.Queue[Obj]]] = attrs.field(factory=dict, init=False)
    _numbers: Any = attrs.field(factory=lambda: itertools.count(1), init=False)
    _last: int = 0

    def serve(
        self, group: str, version: str, plural: str, kind: str, subresources: set[str], *, namespaced: bool = True
    ) -> None:
        """Make a kind known, for discovery and for storing."""
        self.resources[f"{group}/{version}/{plural}" if group else f"{version}/{plural}"] = {
            "kind": kind,
            "singular": kind.lower(),
            "namespaced": namespaced,
            "verbs": VERBS,
            "shortnames": set(),
            "categories": set(),
            "subresources": subresources,
        }
        key = (group, plural)
        self._kinds[key] = (f"{group}/{version}" if group else version, kind, subresources)
        self._store[key], self._log[key], self._watchers[key] = {}, [], set()

    def serve_crd(self, crd: Obj) -> None:
        """Make one of our CRDs known, with its schema."""
        spec = crd["spec"]
        plural = spec["names"]["plural"]
        self.serve(spec["group"], spec["versions"][0]["name"], plural, spec["names"]["kind"], {"status"})
        self._schemas[spec["group"], plural] = schema_of(crd)

    async def _handle(self, request: Any) -> aiohttp.web.StreamResponse:
        if request.resource is None or request.resource.plural is None:
            return await super()._handle(request)
        key = (request.resource.group, request.resource.plural)
        if key not in self._kinds:
            refuse(404, "NotFound", "the server could not find the requested resource")
        if request.action == action.WATCH:
            return await self._watch(key, request)
        if request.action == action.LIST:
            items = [obj for obj in self._store[key].values() if selected(obj, request)]
            kind = self._kinds[key][1]
            listed = {"kind": f"{kind}List", "apiVersion": self._kinds[key][0], "items": items}
            return aiohttp.web.json_response(listed | {"metadata": {"resourceVersion": str(self._last)}})
        if request.action == action.CREATE:
            return aiohttp.web.json_response(self._create(key, request), status=201)
        if request.action not in (action.FETCH, action.UPDATE, action.DELETE):
            refuse(405, "MethodNotAllowed", f"{request.method} is not supported here")
        return aiohttp.web.json_response(self._one(key, request))

    async def _render_error(self, exc: Exception) -> aiohttp.web.StreamResponse:
        # As an API server says it, without a charset: clients compare the whole header.
        told = await super()._render_error(exc)
        assert isinstance(told, aiohttp.web.Response)
        return aiohttp.web.Response(body=told.body, status=told.status, headers={"Content-Type": "application/json"})

    def _one(self, key: tuple[str, str], request: Any) -> Obj:
        place = (request.namespace, request.name)
        old = self._store[key].get(place)
        if old is None:
            refuse(404, "NotFound", f'{key[1]} "{request.name}" not found', name=request.name, kind=key[1])
        if request.subresource and request.subresource not in self._kinds[key][2]:
            refuse(404, "NotFound", "the server could not find the requested resource")
        if request.action == action.FETCH:
            return scale_of(old) if request.subresource == "scale" else old
        if request.action == action.DELETE:
            return self._delete(key, place, old)
        view = scale_of(old) if request.subresource == "scale" else copy.deepcopy(old)
        patched = self._patched(view, request)
        wanted = patched.get("metadata", {}).get("resourceVersion")
        if wanted not in (None, old["metadata"]["resourceVersion"]):
            message = "the object has been modified; please apply your changes to the latest version and try again"
            refuse(409, "Conflict", f'Operation cannot be fulfilled on {key[1]} "{request.name}": {message}')
        new = copy.deepcopy(old)
        if request.subresource == "scale":
            new["spec"]["replicas"] = patched["spec"]["replicas"]
        elif request.subresource == "status":
            new["status"] = patched.get("status", {})
        else:
            new = patched | ({"status": old["status"]} if "status" in old else {})
            if "status" not in old:
                new.pop("status", None) if "status" in self._kinds[key][2] else None
            fixed = ("uid", "creationTimestamp", "deletionTimestamp", "generation", "name", "namespace")
            new["metadata"] |= {name: old["metadata"][name] for name in fixed if name in old["metadata"]}
        new = self._checked(key, new, old)
        stored = self._put(key, place, new, old)
        return scale_of(stored) if request.subresource == "scale" else stored

    def _patched(self, view: Obj, request: Any) -> Obj:
        form = request.headers.get("Content-Type", "").partition(";")[0]
        if form == "application/json-patch+json":
            try:
                patched: Obj = jsonpatch.apply_patch(view, request.data)
            except (jsonpatch.JsonPatchException, jsonpatch.JsonPointerException) as error:
                refuse(422, "Invalid", f"the server rejected our request due to an error in our request: {error}")
            return patched
        if form in ("application/merge-patch+json", "application/strategic-merge-patch+json"):
            return merge(view, request.data)
        refuse(415, "UnsupportedMediaType", f"the body of the request was in an unknown format: {form}")

    def _create(self, key: tuple[str, str], request: Any) -> Obj:
        new = copy.deepcopy(request.data)
        meta = new.setdefault("metadata", {})
        if "name" not in meta:
            meta["name"] = meta.get("generateName", "unnamed-") + f"{next(self._numbers):05d}"
        namespace = meta["namespace"] = request.namespace
        if (namespace, meta["name"]) in self._store[key]:
            refuse(409, "AlreadyExists", f'{key[1]} "{meta["name"]}" already exists', name=meta["name"])
        if "status" in self._kinds[key][2] and key in self._schemas:
            new.pop("status", None)
        meta |= {"uid": f"uid-{next(self._numbers):08d}", "generation": 1, "creationTimestamp": now()}
        new |= {"apiVersion": self._kinds[key][0], "kind": self._kinds[key][1]}
        return self._put(key, (namespace, meta["name"]), self._checked(key, new, None), None)

    def _checked(self, key: tuple[str, str], new: Obj, old: Obj | None) -> Obj:
        """Fill in what the API fills in, and refuse what it refuses."""
        problems: list[str] = []
        if key in self._schemas:
            new, problems = admit(self._schemas[key], new, old)
        spec = new.setdefault("spec", {}) if key[1] != "events" else {}
        if key[1] == "deployments":
            spec.setdefault("replicas", 1)
            problems = ["spec.replicas: must be greater than or equal to 0"] if spec["replicas"] < 0 else []
        if key[1] == "horizontalpodautoscalers":
            spec.setdefault("minReplicas", 1)
            if spec["minReplicas"] < 1:
                problems.append("spec.minReplicas: must be greater than or equal to 1")
            if spec["minReplicas"] > spec["maxReplicas"]:
                problems.append("spec.maxReplicas: must be greater than or equal to `minReplicas`")
        if problems:
            name = f'{self._kinds[key][1]} "{new["metadata"]["name"]}"'
            refuse(422, "Invalid", f"{name} is invalid: {'; '.join(problems)}")
        return new

    def _delete(self, key: tuple[str, str], place: tuple[str | None, str], old: Obj) -> Obj:
        if not old["metadata"].get("finalizers"):
            del self._store[key][place]
            self._tell(key, "DELETED", old)
        elif "deletionTimestamp" not in old["metadata"]:
            new = copy.deepcopy(old)
            new["metadata"] |= {"deletionTimestamp": now(), "generation": old["metadata"]["generation"] + 1}
            return self._put(key, place, new, old)
        return old

    def _put(self, key: tuple[str, str], place: tuple[str | None, str], new: Obj, old: Obj | None) -> Obj:
        if old is not None:
            if new == old:
                return old  # nothing changed: no new version, nobody is told
            if new.get("spec") != old.get("spec"):
                new["metadata"]["generation"] = old["metadata"]["generation"] + 1
        self._last = next(self._numbers)
        new["metadata"]["resourceVersion"] = str(self._last)
        if new["metadata"].get("deletionTimestamp") and not new["metadata"].get("finalizers"):
            del self._store[key][place]
            self._tell(key, "DELETED", new)
        else:
            self._store[key][place] = new
            self._tell(key, "MODIFIED" if old else "ADDED", new)
        return new

    def _tell(self, key: tuple[str, str], kind: str, obj: Obj) -> None:
        event = {"type": kind, "object": obj}
        self._log[key].append((self._last, event))
        for queue in self._watchers[key]:
            queue.put_nowait(event)

    async def _watch(self, key: tuple[str, str], request: Any) -> aiohttp.web.StreamResponse:
        since = request.params.get("resourceVersion")
        if since:
            past = [event for version, event in self._log[key] if version > int(since)]
        else:
            past = [{"type": "ADDED", "object": obj} for obj in self._store[key].values()]
        queue: asyncio.Queue[Obj] = asyncio.Queue()
        self._watchers[key].add(queue)
        try:
            response = aiohttp.web.StreamResponse()
            await response.prepare(request._raw_request)
            for event in past:
                await send(response, event, request)
            while True:
                await send(response, await queue.get(), request)
        except (ConnectionError, aiohttp.ClientConnectionError):
            return response
        finally:
            self._watchers[key].discard(queue)


async def send(response: aiohttp.web.StreamResponse, event: Obj, request: Any) -> None:
    if selected(event["object"], request):
        await response.write(json.dumps(event).encode() + b"\n")


def selected(obj: Obj, request: Any) -> bool:
    if request.namespace is not None and obj["metadata"].get("namespace") != request.namespace:
        return False
    labels = obj["metadata"].get("labels", {})
    wanted = [part.partition("=") for part in request.params.get("labelSelector", "").split(",") if part]
    fields = [part.partition("=") for part in request.params.get("fieldSelector", "").split(",") if part]
    return all(labels.get(name) == value.lstrip("=") for name, _, value in wanted) and all(
        obj["metadata"].get(name.removeprefix("metadata.")) == value for name, _, value in fields
    )


def scale_of(obj: Obj) -> Obj:
    meta = {name: obj["metadata"][name] for name in ("name", "namespace", "uid", "resourceVersion")}
    spec = {"replicas": obj["spec"]["replicas"]}
    status = {"replicas": obj.get("status", {}).get("replicas", 0)}
    return {"apiVersion": "autoscaling/v1", "kind": "Scale", "metadata": meta, "spec": spec, "status": status}


def merge(old: Any, change: Any) -> Any:
    """Return an RFC 7386 merge of the two."""
    if not isinstance(change, dict):
        return change
    new = dict(old) if isinstance(old, dict) else {}
    for name, value in change.items():
        if value is None:
            new.pop(name, None)
        else:
            new[name] = merge(new.get(name), value)
    return new


def now() -> str:
    return datetime.datetime.now(tz=datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


async def main() -> None:
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    server = ApiServer()
    for row in BUILT_IN:
        server.serve(*row)
    for cluster_wide in CLUSTER_WIDE:
        server.serve(*cluster_wide, set(), namespaced=False)
    for crd in load_crds().values():
        server.serve_crd(crd)
    async with server, Server(server) as listening:
        sys.stdout.write(f"ready {listening.url}\n")
        sys.stdout.flush()
        await stop.wait()


if __name__ == "__main__":
    asyncio.run(main())
