"""Servers and pictures for the tests."""

import pytest
from serving import RunningServer, jpeg, png


@pytest.fixture(scope="session")
def photo_bytes(photograph):
    return png(photograph)


@pytest.fixture(scope="session")
def style_bytes(artworks):
    return jpeg(artworks[1])


@pytest.fixture
def start_server(tmp_path):
    """Start a server with settings of its own; it ends with the test."""
    started = []

    def start(**settings):
        markers = tmp_path / "markers"
        markers.mkdir(exist_ok=True)
        started.append(RunningServer(tmp_path / f"state{len(started)}", markers, **settings))
        return started[-1]

    yield start
    for one in started:
        one.stop()


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """One server for a module's tests."""
    folder = tmp_path_factory.mktemp("server")
    (folder / "markers").mkdir()
    running = RunningServer(folder / "state", folder / "markers")
    yield running
    running.stop()


@pytest.fixture
def upload(server):
    """Upload a picture; gives its id."""

    def send(data, name="picture.png"):
        answer = server.client.post("/v1/uploads", files={"file": (name, data)})
        assert answer.status_code == 201, answer.text
        return answer.json()["id"]

    return send
