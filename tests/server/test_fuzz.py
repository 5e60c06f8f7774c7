"""Requests made from the OpenAPI document by schemathesis: no 5xx, nothing that the document does not say."""

import base64
import contextlib
import io
import itertools
import os

import numpy as np
import psutil
import pytest
from hypothesis import HealthCheck, Phase, given, reject, settings
from hypothesis import strategies as st
from hypothesis.errors import Unsatisfiable
from PIL import Image
from serving import jpeg, png

pytestmark = pytest.mark.slow
schemathesis = pytest.importorskip("schemathesis")
SerializationNotPossible = pytest.importorskip("schemathesis.core.errors").SerializationNotPossible

EXAMPLES = int(os.environ.get("IMPASTO_FUZZ_EXAMPLES", "12"))  # of each operation
WRONG = max(1, EXAMPLES // 2)  # requests of each operation that break the document on purpose
COVERAGE = 2 * EXAMPLES  # of each operation: borders of ranges, missing and repeated parts, other methods


def pictures():
    """Pictures of odd kinds, most of them good."""
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 255, (33, 47, 3), np.uint8)
    found = [png(noise), jpeg(noise), png(noise[:, :, 0]), png(noise[:1]), png(np.dstack([noise, noise[..., 0]]))]
    palette = io.BytesIO()
    Image.fromarray(noise).convert("P").save(palette, "GIF")
    return [*found, palette.getvalue(), png(noise)[:-500], b"GIF89a", b""]


class Enricher:
    """Puts real pictures, ids and names into generated requests, which would else hardly get past the door."""

    def __init__(self, server, photo):
        client = server.client
        self.uploads = [client.post("/v1/uploads", files={"file": photo}).json()["id"] for _ in range(3)]
        body = {"content": {"upload": self.uploads[0]}, "styles": [{"preset": "grey"}], "engine": "fake-slow"}
        self.jobs = [server.job(**body) for _ in range(3)]
        contents = {"contents": [body.pop("content")]}
        self.batches = [client.post("/v1/batches", json=body | contents).json()["id"] for _ in range(2)]
        self.batches.append(client.post("/v1/batches", json=body | {"open": True}).json()["id"])
        for job in self.jobs:
            server.ended(job)
        self.pictures = pictures()

    def __call__(self, case, draw):
        for name, known in (("upload_id", self.uploads), ("job_id", self.jobs), ("batch_id", self.batches)):
            if name in (case.path_parameters or {}) and draw(st.booleans()):
                case.path_parameters[name] = draw(st.sampled_from(known))
        if "engine" in (case.path_parameters or {}) and draw(st.booleans()):
            case.path_parameters |= {"engine": "brush", "name": draw(st.sampled_from(["ukiyo-e", "nobody"]))}
        if isinstance(case.body, dict):
            form = case.media_type == "multipart/form-data"
            if {"content", "contents"} & case.body.keys() and draw(st.booleans()):
                self._sensible(case.body, form, more="photos" in case.path)
            elif form:
                self._form(case.body, draw)
            else:
                self._json(case.body, draw)

    def _sensible(self, body, form, *, more):
        """Only the settings are left to chance; ``more`` photographs for a batch have none."""
        if more:
            body.clear()
            body |= {"content": [self.pictures[0]]} if form else {"contents": [{"upload": self.uploads[1]}]}
            return
        body.pop("open", None)
        for name in ("engine", "options", "mix", "mask", "regions", "region_mask", "region_style", "region_strength"):
            body.pop(name, None)
        if form:
            body |= {"content": self.pictures[0], "style": [self.pictures[1]]}  # a text would be sent as a file too
            body.pop("size", None)
            return
        for name, content in (("content", {"upload": self.uploads[0]}), ("contents", [{"upload": self.uploads[1]}])):
            if name in body:
                body[name] = content
        if isinstance(body.get("settings"), dict):
            body["settings"].pop("size", None)
        if "box" not in body and "points" not in body:
            body["styles"] = [{"preset": "ukiyo-e"}]

    def _form(self, body, draw):
        for name in ("content", "mask", "file"):
            if name in body and draw(st.booleans()):
                body[name] = draw(st.sampled_from(self.pictures))

    def _json(self, value, draw):
        if isinstance(value, list):
            for one in value:
                self._json(one, draw)
            return
        if not isinstance(value, dict):
            return
        for name, choices in (
            ("engine", ["brush", "fake-fast", "fake-slow"]),
            ("preset", ["ukiyo-e", "ukiyo-e", "grey"]),
        ):
            if name in value and draw(st.booleans()):
                value[name] = draw(st.sampled_from(choices))
        if value.get("preset") == "ukiyo-e":
            return
        if "upload" in value or "data" in value:
            kept = {key: one for key, one in value.items() if key not in ("upload", "data", "preset")}
            value.clear()
            value |= kept
            if draw(st.booleans()):
                value["upload"] = draw(st.sampled_from(self.uploads))
            else:
                value["data"] = base64.b64encode(draw(st.sampled_from(self.pictures))).decode()
        for one in value.values():
            self._json(one, draw)


def fuzz(operation, enrich, url, checks, seen):
    """Send generated requests to one operation."""

    @settings(
        max_examples=EXAMPLES,
        suppress_health_check=list(HealthCheck),
        phases=[Phase.generate],
        deadline=None,
        derandomize=True,
    )
    @given(data=st.data())
    def check(data):
        case = data.draw(operation.as_strategy())
        enrich(case, data.draw)
        response = case.call_and_validate(base_url=url, checks=checks, timeout=60)
        seen.add((operation.label, response.status_code))

    check()


def fuzz_wrongly(operation, url, checks, seen):
    """Send requests to one operation that break the document on purpose, as they are."""

    @settings(
        max_examples=WRONG,
        suppress_health_check=list(HealthCheck),
        phases=[Phase.generate],
        deadline=None,
        derandomize=True,
    )
    @given(data=st.data())
    def check(data):
        case = data.draw(operation.as_strategy(generation_mode=schemathesis.GenerationMode.NEGATIVE))
        try:
            response = case.call_and_validate(base_url=url, checks=checks, timeout=60)
        except SerializationNotPossible:  # a picture that is no bytes cannot be sent as one
            reject()
        seen.add((operation.label, response.status_code))

    check()


def cover(schema, operation, url, checks, seen):
    """Send a part of the requests that go through the document systematically."""
    modes = [schemathesis.GenerationMode.POSITIVE, schemathesis.GenerationMode.NEGATIVE]
    config = schema.config.generation_for(operation=operation, phase="coverage")
    cases = itertools.islice(
        schema.iter_coverage_cases(operation, generation_modes=modes, generation_config=config), 20 * COVERAGE
    )
    cases = list(cases)  # of a few thousand an even part is sent
    for case in cases[:: max(1, -(-len(cases) // COVERAGE))]:
        with contextlib.suppress(SerializationNotPossible):
            response = case.call_and_validate(base_url=url, checks=checks, timeout=60)
            seen.add((operation.label, response.status_code))
    return len(cases)


def test_wrong_requests_are_never_the_servers_fault(start_server):
    server = start_server(request_seconds=20.0, jobs=100_000)
    schema = schemathesis.openapi.from_url(f"{server.url}/openapi.json")
    checks = [schemathesis.checks.not_a_server_error, schemathesis.checks.content_type_conformance]
    seen = set()
    covered = 0
    operations = [result.ok() for result in schema.get_all_operations()]
    for operation in sorted(operations, key=lambda one: one.method.upper() == "DELETE"):
        with contextlib.suppress(Unsatisfiable):  # nothing in it that could be wrong
            fuzz_wrongly(operation, server.url, checks, seen)
        covered += cover(schema, operation, server.url, checks, seen)
    assert covered > len(operations)
    assert {("POST /v1/stylize", 422), ("POST /v1/jobs", 422), ("GET /v1/jobs/{job_id}", 404)} <= seen
    assert server.client.get("/readyz").status_code == 200
    assert not server.events("request failed"), server.events("request failed")


def test_nothing_unexpected_happens(start_server, photo_bytes):
    server = start_server(request_seconds=20.0, jobs=100_000)
    schema = schemathesis.openapi.from_url(f"{server.url}/openapi.json")
    checks = [
        schemathesis.checks.not_a_server_error,
        schemathesis.checks.status_code_conformance,
        schemathesis.checks.content_type_conformance,
        schemathesis.checks.response_schema_conformance,
    ]
    enrich = Enricher(server, photo_bytes)
    seen = set()
    operations = [result.ok() for result in schema.get_all_operations()]
    assert len(operations) > 25
    for operation in sorted(operations, key=lambda one: one.method.upper() == "DELETE"):
        fuzz(operation, enrich, server.url, checks, seen)
    for label in (
        "POST /v1/stylize",
        "POST /v1/previews",
        "GET /v1/jobs/{job_id}/result",
        "GET /v1/uploads/{upload_id}/picture",
    ):
        assert (label, 200) in seen, f"{label} was never reached in earnest: {sorted(seen)}"
    assert ("POST /v1/jobs", 202) in seen
    assert psutil.pid_exists(server.process.pid) and server.client.get("/readyz").status_code == 200
    assert not server.events("request failed"), server.events("request failed")
