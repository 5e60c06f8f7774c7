"""Paintings over a real socket: what is asked for is what comes back."""

import base64
import io
import json

import numpy as np
import pytest
from PIL import Image
from serving import jpeg, pixels_in, png, problem

import impasto
from impasto.field import StyleField, StyleLayer


def b64(data):
    return {"data": base64.b64encode(data).decode()}


def near(first, second, limit):
    return float(np.abs(first.astype(float) - second.astype(float)).mean()) <= limit


def test_the_library_paints_the_same(server, photo_bytes, photograph):
    answer = server.client.post(
        "/v1/stylize",
        files={"content": ("me.png", photo_bytes, "image/png")},
        data={"style": "ukiyo-e", "format": "png"},
    )
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == "image/png" and float(answer.headers["x-impasto-seconds"]) > 0
    assert 'filename="me.ukiyo-e.png"' in answer.headers["content-disposition"]
    wanted = impasto.stylize(photograph, "ukiyo-e")
    assert np.array_equal(pixels_in(answer.content), wanted.stored)


def test_json_and_form_say_the_same(server, photo_bytes, style_bytes):
    fields = {"strength": "0.6", "mix": "0.7,0.3", "format": "png", "preserve_color": "luminance"}
    files = [
        ("content", ("a.png", photo_bytes)),
        ("style", ("b.jpg", style_bytes, "image/jpeg")),
        ("style", (None, "ukiyo-e")),
    ]
    by_form = server.client.post("/v1/stylize", files=files, data=fields)
    body = {
        "content": b64(photo_bytes),
        "styles": [b64(style_bytes) | {"weight": 0.7}, {"preset": "ukiyo-e", "weight": 0.3}],
        "settings": {"strength": 0.6, "preserve_color": "luminance"},
        "output": {"format": "png"},
    }
    by_json = server.client.post("/v1/stylize", json=body)
    assert by_form.status_code == by_json.status_code == 200, by_form.text + by_json.text
    assert np.array_equal(pixels_in(by_form.content), pixels_in(by_json.content))
    plain = server.client.post("/v1/stylize", json=body | {"settings": {"strength": 1.0}})
    assert not np.array_equal(pixels_in(plain.content), pixels_in(by_json.content))


def test_results_carry_their_recipe_unless_stripped(server, photo_bytes, tmp_path):
    body = {"content": b64(photo_bytes) | {"name": "sea.png"}, "styles": [{"preset": "ukiyo-e"}]}
    answer = server.client.post("/v1/stylize", json=body)
    (tmp_path / "painting.jpg").write_bytes(answer.content)
    recipe = json.loads(impasto.image.read_recipe(tmp_path / "painting.jpg"))
    assert recipe["content"] == "sea.png" and recipe["styles"][0]["name"] == "ukiyo-e"
    stripped = server.client.post("/v1/stylize", json=body | {"output": {"strip": True}})
    (tmp_path / "painting.jpg").write_bytes(stripped.content)
    assert impasto.image.read_recipe(tmp_path / "painting.jpg") is None


def test_regions_lie_on_top_of_the_styles_beneath(server, photograph, photo_bytes, stylizer, presets):
    left = np.zeros((96, 96), np.uint8)
    left[:, :48] = 255
    whole = np.full((96, 96), 255, np.uint8)
    body = {
        "content": b64(photo_bytes),
        "styles": [{"preset": "ukiyo-e"}],
        "regions": [
            {"mask": b64(png(whole)), "styles": [{"preset": "charcoal"}], "strength": 0.5},
            {"mask": b64(png(left)), "styles": []},
        ],
        "output": {"format": "png"},
    }
    answer = server.client.post("/v1/stylize", json=body)
    assert answer.status_code == 200, answer.text
    painted = pixels_in(answer.content)
    assert np.array_equal(painted[:, :48], photograph[:, :48])  # the upper region has no style
    weight = np.zeros((96, 96), np.float32)
    weight[:, 48:] = 0.5
    wanted = stylizer.render(photograph, StyleField((StyleLayer(presets["charcoal"], weight),)))
    assert near(painted, wanted.stored, 1.0)
    assert not near(painted[:, 48:], photograph[:, 48:], 4.0)


def test_form_regions_and_mask(server, photo_bytes, photograph):
    top = np.zeros((96, 96), np.uint8)
    top[:48] = 255
    files = [
        ("content", ("a.png", photo_bytes)),
        ("mask", ("m.png", png(top))),
        ("region_mask", ("r.png", png(top))),
        ("region_style", (None, "charcoal")),
    ]
    answer = server.client.post("/v1/stylize", files=files, data={"format": "png", "region_strength": "1.0"})
    assert answer.status_code == 200, answer.text
    painted = pixels_in(answer.content)
    assert np.array_equal(painted[48:], photograph[48:]) and not near(painted[:48], photograph[:48], 5)


def test_feathered_regions_have_soft_borders(server, photo_bytes, photograph):
    left = np.zeros((96, 96), np.uint8)
    left[:, :48] = 255
    body = {
        "content": b64(photo_bytes),
        "regions": [{"mask": b64(png(left)), "styles": [{"preset": "charcoal"}]}],
        "output": {"format": "png"},
    }
    hard = pixels_in(server.client.post("/v1/stylize", json=body).content)
    soft = pixels_in(server.client.post("/v1/stylize", json=body | {"feather": 8, "feather_mode": "gaussian"}).content)
    assert np.array_equal(hard[:, 48:], photograph[:, 48:])
    assert not np.array_equal(soft[:, 48:56], photograph[:, 48:56])
    assert np.array_equal(soft[:, 60:], photograph[:, 60:])


def test_strength_zero_gives_the_photograph_back(server, photo_bytes, photograph):
    body = {
        "content": b64(photo_bytes),
        "styles": [{"preset": "ukiyo-e"}],
        "settings": {"strength": 0},
        "output": {"format": "png"},
    }
    assert np.array_equal(pixels_in(server.client.post("/v1/stylize", json=body).content), photograph)


def test_alpha_and_size_are_kept(server):
    rgba = np.zeros((40, 60, 4), np.uint8)
    rgba[10:30, :, 3] = 255
    body = {
        "content": b64(png(rgba)),
        "styles": [{"preset": "ukiyo-e"}],
        "settings": {"size": 120},
        "output": {"format": "webp"},
    }
    answer = server.client.post("/v1/stylize", json=body)
    assert answer.status_code == 200, answer.text
    with Image.open(io.BytesIO(answer.content)) as image:
        assert image.size == (120, 80) and image.mode == "RGBA"


def test_previews_by_upload(server, upload, photograph, style_bytes):
    large = np.asarray(Image.fromarray(photograph).resize((900, 600)))
    content, style = upload(jpeg(large), "large.jpg"), upload(style_bytes, "style.jpg")
    body = {"content": {"upload": content}, "styles": [{"upload": style}], "longer_side": 150, "format": "webp"}
    answers = [server.client.post("/v1/previews", json=body | {"settings": {"strength": s}}) for s in (0.2, 1.0, 0.2)]
    assert [answer.status_code for answer in answers] == [200] * 3, answers[0].text
    pictures = [pixels_in(answer.content) for answer in answers]
    assert pictures[0].shape == (100, 150, 3)
    assert np.array_equal(pictures[0], pictures[2]) and not np.array_equal(pictures[0], pictures[1])
    small = server.client.post(
        "/v1/previews", json=body | {"content": {"upload": upload(png(photograph))}, "longer_side": 512}
    )
    assert pixels_in(small.content).shape == (96, 96, 3)  # never enlarged


def test_uploads_can_be_seen_and_forgotten(server, upload, photograph):
    turned = Image.fromarray(photograph[:64])
    exif = Image.Exif()
    exif[0x0112] = 6
    stream = io.BytesIO()
    turned.save(stream, "JPEG", exif=exif)
    identifier = upload(stream.getvalue(), "turned.jpg")
    facts = server.client.get(f"/v1/uploads/{identifier}").json()
    assert (facts["height"], facts["width"], facts["media_type"]) == (96, 64, "image/jpeg")
    shown = server.client.get(f"/v1/uploads/{identifier}/picture", params={"size": 48, "format": "png"})
    assert pixels_in(shown.content).shape == (48, 32, 3)
    assert server.client.delete(f"/v1/uploads/{identifier}").status_code == 204
    problem(server.client.get(f"/v1/uploads/{identifier}"), 404, "not-found")
    body = {"content": {"upload": identifier}, "styles": [{"preset": "ukiyo-e"}]}
    assert "upload the picture again" in problem(server.client.post("/v1/previews", json=body), 404)["detail"]


def test_raw_uploads(server, photo_bytes):
    answer = server.client.post("/v1/uploads", content=photo_bytes, headers={"Content-Type": "image/png"})
    assert answer.status_code == 201 and answer.json()["height"] == 96
    problem(
        server.client.post("/v1/uploads", content=photo_bytes, headers={"Content-Type": "image/jpeg"}),
        415,
        "media-type",
    )


def test_engines_presets_and_thumbnails(server):
    engines = server.client.get("/v1/engines").json()
    brush = next(one for one in engines["engines"] if one["name"] == "brush")
    assert brush["available"] and not brush["slow"]
    strength = next(one for one in engines["settings"] if one["name"] == "strength")
    assert strength["maximum"] == 1.0 and strength["type"] == "number"
    slow = next(one for one in engines["engines"] if one["name"] == "fake-slow")
    assert (
        slow["slow"]
        and "weights" not in [one["name"] for one in slow["options"]]
        and {"name", "default", "minimum", "maximum"} <= slow["options"][0].keys()
    )
    presets = server.client.get("/v1/presets").json()["presets"]
    thumbnail = server.client.get(presets[0]["thumbnail"])
    assert thumbnail.headers["content-type"] == "image/webp" and max(pixels_in(thumbnail.content).shape) == 256
    again = server.client.get(presets[0]["thumbnail"], headers={"If-None-Match": thumbnail.headers["etag"]})
    assert again.status_code == 304
    problem(server.client.get("/v1/presets/brush/ukio-e/thumbnail"), 404, "unknown-name")


def test_estimates(server):
    small, large = (
        server.client.post("/v1/estimate", json={"height": side, "width": side}).json() for side in (512, 2048)
    )
    assert 0 < small["seconds"] < large["seconds"] and 0 < small["memory"] <= large["memory"]
    slow = server.client.post(
        "/v1/estimate", json={"engine": "fake-slow", "height": 10, "width": 10, "options": {"steps": 100, "pause": 0.5}}
    )
    assert slow.json()["seconds"] == pytest.approx(50)


def test_slow_engines_are_jobs(server, photo_bytes):
    body = {"content": b64(photo_bytes), "styles": [{"preset": "grey"}], "engine": "fake-slow"}
    problem(server.client.post("/v1/stylize", json=body), 400, "slow-engine")
    problem(server.client.post("/v1/previews", json=body), 400, "slow-engine")


@pytest.mark.parametrize(
    ("change", "status", "kind"),
    [
        ({"styles": [{"preset": "ukio-e"}]}, 404, "unknown-name"),
        ({"styles": [{"preset": "/etc/passwd"}]}, 404, "unknown-name"),
        ({"styles": [{"preset": "../../../etc/hostname"}]}, 404, "unknown-name"),
        ({"engine": "brsh"}, 404, "unknown-name"),
        ({"styles": []}, 400, "usage"),
        ({"styles": [{"preset": "ukiyo-e", "weight": 0}]}, 400, "field"),
        ({"options": {"iterations": 3}}, 400, "usage"),
        ({"settings": {"strength": 1.5}}, 422, "invalid"),
        ({"settings": {"strength": "much"}}, 422, "invalid"),
        ({"settings": {"strenth": 1}}, 422, "invalid"),
        ({"settings": {"size": 65536}}, 413, "image-limit"),
        ({"styles": [{"preset": "ukiyo-e", "upload": "x"}]}, 422, "invalid"),
        ({"content": {"upload": "nothing"}}, 404, "not-found"),
        ({"content": {"data": "%%%"}}, 422, "invalid"),
        ({"content": {"path": "/etc/passwd"}}, 422, "invalid"),
        ({"content": {"upload": "part:0"}}, 404, "not-found"),
        ({"engine": "fake-fast", "options": {"steps": 0}}, 400, "usage"),
        ({"engine": "fake-fast", "styles": [{"preset": "grey"}], "options": {"stps": 3}}, 404, "unknown-name"),
        ({"engine": "fake-fast", "options": {"weights": "/etc/passwd"}}, 400, "usage"),
        ({"output": {"format": "gif"}}, 422, "invalid"),
    ],
)
def test_wrong_requests_are_told_what_is_wrong(server, photo_bytes, change, status, kind):
    body = {"content": b64(photo_bytes), "styles": [{"preset": "ukiyo-e"}]} | change
    for path in ("/v1/stylize", "/v1/jobs"):
        if path == "/v1/jobs" and (kind in ("field", "image-limit") or change == {"styles": []}):
            continue  # found only when it is painted
        found = problem(server.client.post(path, json=body), status, kind)
        if kind == "unknown-name" and change.get("styles") == [{"preset": "ukio-e"}]:
            assert "ukiyo-e" in found["near"]


def test_wrong_places(server):
    problem(server.client.get("/v1/nothing"), 404, "not-found")
    problem(server.client.get("/v1/jobs/nothing"), 404, "not-found")
    answer = server.client.put("/v1/stylize")
    problem(answer, 405, "method")
    assert "POST" in answer.headers["allow"]
    problem(
        server.client.post("/v1/stylize", content=b"hello", headers={"Content-Type": "text/plain"}), 415, "media-type"
    )
    problem(
        server.client.post("/v1/stylize", content=b"{", headers={"Content-Type": "application/json"}), 422, "invalid"
    )
    form = {"Content-Type": "multipart/form-data; boundary=x"}
    problem(server.client.post("/v1/stylize", content=b"--x--", headers=form), 422, "invalid")
    problem(server.client.post("/v1/stylize", content=b"nonsense", headers=form), 400, "bad-request")
    problem(
        server.client.post("/v1/stylize", content=b"", headers={"Content-Type": "multipart/form-data"}),
        400,
        "bad-request",
    )


def test_forms_name_what_they_do_not_know(server, photo_bytes):
    answer = server.client.post(
        "/v1/stylize", files={"content": photo_bytes}, data={"style": "ukiyo-e", "strenght": "1"}
    )
    assert problem(answer, 422, "invalid")["errors"][0]["location"] == "strenght"
    answer = server.client.post(
        "/v1/stylize", files={"content": photo_bytes}, data={"style": "ukiyo-e", "strength": "much"}
    )
    assert problem(answer, 422, "invalid")["errors"][0]["location"] == "settings.strength"
    answer = server.client.post("/v1/stylize", data={"content": "/etc/passwd", "style": "ukiyo-e"})
    problem(answer, 415, "media-type")
    for name in ("content", "mask"):
        files = [("content", photo_bytes), ("mask", photo_bytes), (name, photo_bytes)]
        answer = server.client.post("/v1/stylize", files=files, data={"style": "ukiyo-e"})
        assert problem(answer, 422, "invalid")["errors"][0]["location"] == name


def test_openapi_has_the_real_ranges(server):
    schemas = server.client.get("/openapi.json").json()["components"]["schemas"]
    settings = schemas["Settings"]["properties"]
    assert settings["strength"] | {"description": ""} == {
        "type": "number",
        "minimum": 0.0,
        "maximum": 1.0,
        "default": 1.0,
        "title": "Strength",
        "description": "",
    }
    assert settings["preserve_color"]["enum"] == ["none", "luminance", "statistics"]
    assert schemas["FakeSlowOptions"]["properties"]["steps"]["maximum"] == 10_000
    for request in ("StylizeRequest", "PreviewRequest", "BatchRequest", "EstimateRequest"):
        options = schemas[request]["properties"]["options"]
        assert "additionalProperties" not in options
        referred = {one["$ref"].rpartition("/")[2]: one["description"] for one in options["anyOf"]}
        assert referred["FakeSlowOptions"] == "where 'engine' is fake-slow" and "GatysOptions" in referred
        assert set(referred) <= schemas.keys()
    paths = server.client.get("/openapi.json").json()["paths"]
    form = paths["/v1/jobs"]["post"]["requestBody"]["content"]["multipart/form-data"]["schema"]["properties"]
    assert form["options"]["contentSchema"]["anyOf"] == schemas["StylizeRequest"]["properties"]["options"]["anyOf"]
