"""The page under an app: what it answers, and what it refuses."""

from __future__ import annotations

import dataclasses
import subprocess
import sys

import numpy as np
import pytest

from subgpt import playground
from subgpt.errors import InvalidValueError, MissingExtraError
from subgpt.playground.views.thumbs import thumbnail


def test_importing_subgpt_brings_no_nicegui():
    program = (
        "import sys, subgpt, subgpt.playground; print('nicegui' in sys.modules, 'fastapi' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "False"]


def test_without_nicegui_the_line_to_type_is_told(monkeypatch, served):
    monkeypatch.setitem(sys.modules, "nicegui", None)
    with pytest.raises(MissingExtraError, match=r"pip install \"subgpt\[serve\]\""):
        playground.mount(object(), [served])


def test_without_a_model_there_is_nothing_to_show():
    pytest.importorskip("nicegui", reason="the playground needs nicegui")
    with pytest.raises(InvalidValueError, match="there is no model to show"):
        playground.mount(object(), [])


def test_two_apps_show_their_own_models_one_after_the_other(served):
    pytest.importorskip("nicegui", reason="the playground needs nicegui")
    fastapi = pytest.importorskip("fastapi", reason="the playground needs fastapi")
    from fastapi.testclient import TestClient

    for name in ("first", "second"):
        app = fastapi.FastAPI()
        playground.mount(app, [dataclasses.replace(served, name=name)], None)
        with TestClient(app) as client:
            page = client.get("/")
        assert page.status_code == 200
        assert f"{name}" in page.text
        assert "subgpt playground" in page.text
        assert "set-cookie" not in page.headers
        assert "https://" not in page.text.replace("https://github.com", "")


def test_a_thumbnail_is_a_picture():
    made = thumbnail(np.tril(np.ones((4, 4), np.float32)), "#ffffff", "#123f8f")
    assert made.startswith("data:image/png;base64,")


def test_a_thumbnail_has_the_pixels_it_was_given():
    image = pytest.importorskip("PIL.Image", reason="Pillow reads the picture back")
    import base64
    import io

    weights = np.array([[0.0, 1.0], [0.5, 0.0]], np.float32)
    raw = base64.b64decode(thumbnail(weights, "#000000", "#ff0000").partition(",")[2])
    red = np.asarray(image.open(io.BytesIO(raw)).convert("RGB"))[..., 0]
    assert (red[0].tolist(), red[1, 1]) == ([0, 255], 0)
    assert abs(int(red[1, 0]) - 128) < 10
