"""The HTTP interface as a program uses it, through Gradio's own client."""

import json
import subprocess
import urllib.error
import urllib.request

import pytest

from hspan.cli import main
from hspan.imaging import read_image

pytest.importorskip("gradio")
client_of = pytest.importorskip("gradio_client")

# Warnings of Gradio's own packages are theirs.
pytestmark = [pytest.mark.filterwarnings("ignore"), pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def client(server, tmp_path_factory):
    folder = tmp_path_factory.mktemp("downloads")
    client = client_of.Client(server.address, verbose=False, download_files=str(folder))
    yield client
    client.close()


def file(path):
    return client_of.handle_file(str(path))


def test_what_there_is(client):
    names = json.loads(json.dumps(client.view_api(return_format="dict")))["named_endpoints"]
    assert set(names) == {"/upscale", "/explain", "/models"}
    known = client.predict(api_name="/models")
    assert known["models"]["small"] == [2]
    assert known["limits"] == {"megabytes": 2, "megapixels": 0.02, "explained": 384}


def test_upscale(client, deep, weights, tmp_path):
    result, report = client.predict(file(deep), "small", 2, api_name="/upscale")
    assert main(["upscale", str(deep), "-m", str(weights)]) == 0
    with open(result, "rb") as found:
        assert found.read() == (tmp_path / "deep_x2.png").read_bytes()
    assert read_image(result).dtype == "uint16"
    assert report["name"] == "deep_x2.png"
    assert (report["lr_size"], report["sr_size"]) == ([14, 12], [28, 24])
    _, scored = client.predict(file(deep), "small", 2, False, file(result), api_name="/upscale")
    assert scored["score"]["psnr"] is None  # equal
    assert scored["score"]["bicubic_psnr"] > 0


def test_explain(client, photo):
    found = client.predict(file(photo), 21, 17, "small", 2, api_name="/explain")
    assert found["part"] == [0, 0, 22, 18]
    assert found["at"] == [21, 17]
    layer = found["layers"][0]
    assert layer["here"] == [20, 16, 2, 2]
    assert sum(s["weight"] for s in layer["sources"]) == pytest.approx(1, abs=1e-4)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("small", 3), "small enlarges by ×2, not by ×3"),
        (("large", 2), "there is no model 'large' here"),
    ],
)
def test_wrong_calls_get_a_sentence(client, photo, arguments, sentence):
    with pytest.raises(client_of.exceptions.AppError, match=sentence):
        client.predict(file(photo), *arguments, api_name="/upscale")


def test_bad_files_get_a_sentence(client, tmp_path):
    path = tmp_path / "notes.png"
    path.write_text("hello")
    with pytest.raises(client_of.exceptions.AppError, match=r"^notes\.png isn't an image") as error:
        client.predict(file(path), "small", 2, api_name="/upscale")
    assert "hspan-web" not in str(error.value)


def test_files_of_the_computer_stay_there(server):
    for path in ("/etc/hostname", __file__):
        with pytest.raises(urllib.error.HTTPError) as error:
            urllib.request.urlopen(f"{server.address}gradio_api/file={path}")
        assert error.value.code in (403, 404)
        error.value.close()


def test_password_and_removal(start_server, weights, photo, tmp_path):
    server = start_server(tmp_path, "-m", weights, "--auth", "ada:secret")
    try:
        with pytest.raises(Exception, match=r"(?i)auth|credentials|login"):
            client_of.Client(server.address, verbose=False)
        client = client_of.Client(
            server.address, auth=("ada", "secret"), verbose=False, download_files=str(tmp_path)
        )
        client.predict(file(photo), "small", 2, api_name="/upscale")
        assert server.left(wait=0)
    finally:
        status = server.stop()
    assert status == 0
    assert server.left() == []


def test_taken_port(server):
    port = server.address.rstrip("/").rpartition(":")[2]
    ended = subprocess.run([*server.command, "web", "--port", port], capture_output=True, text=True)
    assert ended.returncode == 1
    assert f"can't listen at 127.0.0.1:{port}" in ended.stderr
    assert "choose another --port" in ended.stderr
    assert "Traceback" not in ended.stderr
