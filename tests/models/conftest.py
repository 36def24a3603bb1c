"""Every test of a network starts from the same seed, uses one thread and reaches no server."""

import email.message
import io
import urllib.error
import warnings

import pytest
import torch


@pytest.fixture(autouse=True)
def seeded(single_threaded):
    torch.manual_seed(0)


@pytest.fixture(autouse=True)
def no_network(monkeypatch):
    def refuse(*args, **kwargs):
        raise urllib.error.URLError("Name or service not known")

    monkeypatch.setattr("torch.hub.urlopen", refuse)


@pytest.fixture
def serve(monkeypatch):
    """`serve(content)` answers every download with these bytes; returns the list of addresses asked for."""

    def start(content):
        asked = []

        def answer(request):
            asked.append(request.full_url)
            response = io.BytesIO(content)
            response.info = email.message.Message
            return response

        monkeypatch.setattr("torch.hub.urlopen", answer)
        return asked

    return start


@pytest.fixture
def in_onnx(tmp_path):
    """`in_onnx(net, x)` exports a network for images like x; returns a function from images to logits."""
    import onnxruntime

    def export(net, x):
        out, count = tmp_path / "net.onnx", {0: torch.export.Dim("n", min=1, max=64)}
        with warnings.catch_warnings(action="ignore"):  # the exporter's own
            program = torch.export.export(net, (x,), dynamic_shapes=(count,), strict=False)
            names = {"input_names": ["images"], "output_names": ["logits"]}
            torch.onnx.export(program, **names, verbose=False).save(out)
        session = onnxruntime.InferenceSession(str(out), providers=["CPUExecutionProvider"])
        return lambda images: torch.from_numpy(session.run(["logits"], {"images": images.numpy()})[0])

    return export
