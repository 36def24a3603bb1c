"""Home: one click tries a clip; data sets, runs and models are counted."""

import os
import subprocess
import sys

import pytest

from tests.page_helpers import ROOT, errors, links, opened, page_at, said

LOOK = """
import os, sys
from streamlit.testing.v1 import AppTest
for home in sys.argv[2:]:
    os.environ["MER_HOME"] = home
    app = AppTest.from_file(sys.argv[1], default_timeout=60).run()
    assert not app.exception and not app.error, [*app.exception, *app.error]
    print(app.metric[1].value, "torch" in sys.modules)
"""


def figures(app):
    return {metric.label: metric.value for metric in app.metric}


def test_an_empty_home_and_one_with_runs_and_models_open_without_importing_torch(busy, own_home):
    command = [sys.executable, "-c", LOOK, ROOT / "pages" / "home.py", own_home, busy.home]
    done = subprocess.run(command, cwd=ROOT, env=os.environ, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == ["0 False", "6 False"]


def test_an_empty_home_says_what_to_do_first(own_home):
    app = opened("home")
    assert figures(app) == {"Data": "0", "Runs": "0", "Models": "3"}
    assert "none yet: add one" in said(app)
    assert not own_home.exists()


def test_data_runs_and_models_are_counted_and_linked(busy):
    app = opened("home")
    assert figures(app) == {"Data": "1", "Runs": "6", "Models": "6"}
    assert "1 active, 3 finished" in said(app)
    assert "data set" in said(app).splitlines(), "one data set is not called sets"
    assert "3 shipped, 3 trained here" in said(app)
    assert {"data", "live", "predict", "train", "confusion"} <= set(links(app))


def test_the_folds_of_a_cross_validation_are_not_counted_as_runs(lab):
    fold = lab.runs.create("fold 1", {}, parent=lab.first)
    app = opened("home")
    lab.runs.delete(fold)
    assert figures(app)["Runs"] == "5"


def test_no_clip_is_predicted_before_the_button_is_pressed():
    app = opened("home")
    assert [heading.value for heading in app.subheader] == ["Start here"]
    assert not app.get("plotly_chart")


def test_trying_a_clip_shows_a_prediction_of_the_shipped_model():
    app = page_at("home").run()
    app.button(key="try").click().run()
    assert errors(app) == []
    assert "Devotional" in said(app), "the first clip was generated as that"
    assert "synthetic music" in said(app)
    assert len(app.get("audio")) == 1
    assert len(app.get("plotly_chart")) == 2
    assert "%" in app.subheader[0].value
    assert "predict" in links(app)


def test_each_click_takes_another_clip(monkeypatch):
    from mer.data.clips import MER500_CLASSES
    from pages._ui.parts import clip

    heard = []
    monkeypatch.setattr(clip, "analyse", lambda content, name, model: heard.append(content))
    monkeypatch.setattr(clip, "show_analysis", lambda *found, **how: None)
    app = page_at("home").run()
    for _ in range(6):
        app.button(key="try").click().run()
    assert len(set(heard)) == 6
    generated = [caption.value for caption in app.caption if "generated as" in caption.value]
    assert len(generated) == 1
    assert any(name in generated[0] for name in MER500_CLASSES)


def test_a_missing_model_is_reported_with_the_remedy(monkeypatch, tmp_path):
    monkeypatch.setattr("pages._ui.cached.models.SHIPPED", tmp_path)
    app = page_at("home").run()
    app.button(key="try").click().run()
    assert ["The shipped model is missing" in info.value for info in app.info] == [True]


@pytest.mark.parametrize("drawing", ["sound", "curves", "matrix"])
def test_each_drawing_is_a_complete_svg(drawing):
    from xml.etree import ElementTree

    from pages._ui.charts import pictures

    assert len(ElementTree.fromstring(getattr(pictures, drawing)())) >= 2
