"""Who may come in: hosts, origins, tokens; what every answer carries; what is logged."""

import httpx
import pytest
from serving import problem

TOKEN = "correct-horse-battery-staple"


@pytest.fixture(scope="module")
def guarded(tmp_path_factory):
    from serving import RunningServer

    folder = tmp_path_factory.mktemp("guarded")
    running = RunningServer(
        folder / "state", folder, token=TOKEN, allowed_hosts=["paint.example"], cors_origins=["https://gallery.example"]
    )
    yield running
    running.stop()


def test_security_headers(server):
    for path in ("/healthz", "/v1/engines", "/nothing"):
        headers = server.client.get(path).headers
        assert headers["x-content-type-options"] == "nosniff" and headers["x-frame-options"] == "DENY"
        assert headers["cross-origin-resource-policy"] == "same-origin" and headers["referrer-policy"] == "no-referrer"
        assert "content-security-policy" in headers and headers["x-request-id"]
        assert "access-control-allow-origin" not in headers and "server" not in headers
    assert server.client.get("/v1/engines").headers["cache-control"] == "no-store"


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1.evil.example", "localhost.evil.example:80", "", "[::2]"])
def test_other_hosts_are_refused(server, host):
    problem(server.client.get("/v1/engines", headers={"Host": host}), 421, "host")


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1:1", "LOCALHOST:8400", "[::1]:8400"])
def test_loopback_hosts_are_known(server, host):
    assert server.client.get("/healthz", headers={"Host": host}).status_code == 200


@pytest.mark.parametrize(
    "origin", ["https://evil.example", "null", "http://127.0.0.1:1", "http://localhost.evil.example", "http://["]
)
def test_pages_of_other_sites_are_refused(server, origin, photo_bytes):
    answer = server.client.post("/v1/uploads", files={"file": photo_bytes}, headers={"Origin": origin})
    problem(answer, 403, "origin")


def test_the_servers_own_page_is_let_in(server, photo_bytes):
    answer = server.client.post("/v1/uploads", files={"file": photo_bytes}, headers={"Origin": server.url})
    assert answer.status_code == 201
    answer = server.client.post("/v1/uploads", files={"file": photo_bytes}, headers={"Sec-Fetch-Site": "cross-site"})
    problem(answer, 403, "origin")


def test_token(guarded):
    def get(path, **headers):
        return httpx.get(guarded.url + path, headers=headers, trust_env=False)

    assert get("/healthz").status_code == get("/readyz").status_code == 200
    for path in ("/v1/engines", "/metrics", "/openapi.json", "/v1/nothing"):
        answer = get(path)
        problem(answer, 401, "token")
        assert answer.headers["www-authenticate"].startswith("Bearer")
    for wrong in (f"Bearer {TOKEN}x", f"Basic {TOKEN}", "Bearer", f"Bearer {TOKEN[:-1]}", "Bearer \xe9"):
        problem(get("/v1/engines", Authorization=wrong.encode("latin-1")), 401, "token")
    assert get("/v1/engines", Authorization=f"bearer {TOKEN}").status_code == 200
    assert guarded.client.get("/openapi.json").json()["security"] == [{"token": []}]


def test_session_cookie(guarded):
    answer = guarded.client.post("/v1/session")
    assert answer.status_code == 204
    cookie = answer.headers["set-cookie"]
    assert "HttpOnly" in cookie and "SameSite=strict" in cookie and TOKEN not in cookie
    value = cookie.partition(";")[0].partition("=")[2]
    known = httpx.get(guarded.url + "/v1/engines", headers={"Cookie": f"impasto_session={value}"}, trust_env=False)
    assert known.status_code == 200
    wrong = httpx.get(
        guarded.url + "/v1/engines", headers={"Cookie": f"impasto_session={value[:-1]}0"}, trust_env=False
    )
    assert wrong.status_code == (200 if value.endswith("0") else 401)


def test_cors_only_where_it_was_asked_for(guarded):
    asked = {"Origin": "https://gallery.example", "Access-Control-Request-Method": "POST"}
    answer = httpx.options(guarded.url + "/v1/stylize", headers=asked, trust_env=False)
    assert answer.status_code == 200 and answer.headers["access-control-allow-origin"] == "https://gallery.example"
    answer = guarded.client.get("/v1/engines", headers={"Origin": "https://gallery.example"})
    assert answer.headers["access-control-allow-origin"] == "https://gallery.example"
    problem(guarded.client.get("/v1/engines", headers={"Origin": "https://other.example"}), 403, "origin")


def test_allowed_hosts(guarded):
    assert guarded.client.get("/healthz", headers={"Host": "paint.example"}).status_code == 200
    problem(guarded.client.get("/healthz", headers={"Host": "other.example"}), 421, "host")


def test_logs_are_json_without_names_or_pictures(server, photo_bytes):
    files = {"content": ("secret-name.png", photo_bytes)}
    answer = server.client.post("/v1/stylize?q=secret-query", files=files, data={"style": "ukiyo-e"})
    assert answer.status_code == 200
    row = server.wait_until(
        lambda: [one for one in server.events("request") if one["request"] == answer.headers["x-request-id"]]
    )[0]
    assert row["route"] == "/v1/stylize" and row["status"] == 200 and row["sent"] == len(answer.content)
    assert row["received"] > len(photo_bytes) and row["seconds"] > 0
    assert not any("secret" in line for line in server.log)


def test_metrics(server, photo_bytes):
    server.client.post("/v1/stylize", files={"content": photo_bytes}, data={"style": "ukiyo-e"})
    server.client.get("/random/path/that/nobody/has")
    answer = server.client.get("/metrics")
    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
    lines = answer.text.splitlines()
    assert any(
        line.startswith('impasto_requests_total{method="POST",route="/v1/stylize",status="200"}') for line in lines
    )
    assert any(line.startswith('impasto_painting_seconds_count{engine="brush",lane="request"}') for line in lines)
    assert 'impasto_workers{pool="fast"} 1.0' in lines and "nobody" not in answer.text


def test_no_page_without_the_studio(server):
    problem(server.client.get("/"), 404, "not-found")
    problem(server.client.get("/docs"), 404, "not-found")
