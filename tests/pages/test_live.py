"""Live: the state, progress and buttons of each run, and its curves."""

import json
import socket
from types import SimpleNamespace

import psutil
import pytest
import streamlit as st

from mer.experiments.prepared import Spec
from mer.jobs.queue import log_path
from mer.runs.deleted import deleted_runs, remove_files
from mer.runs.run import Run
from mer.runs.store import RunStore
from mer.utils.errors import RunError
from pages._ui.cached import runs as cached_runs
from pages._ui.parts import run_buttons as actions
from pages._ui.parts import run_row as running
from pages._ui.parts.run_row import progress_of, states
from tests.page_helpers import as_read, by_label, errors, opened, page_at, said
from tests.run_helpers import tiny_config

GONE = json.dumps({"host": socket.gethostname(), "pid": 2**22 - 7, "born": 1.0})


@pytest.fixture
def begun(lab):
    """`begun(status, **tags)` records a run in that state; it is deleted after the test."""
    made = []

    def begin(status="queued", *, name="one more", parent=None, metrics=None, tags=None, **config):
        spec = Spec(data=str(lab.corpus), config=tiny_config(**config)).to_dict()
        run_id = lab.runs.create(name, spec, parent=parent)
        made.append(run_id)
        if status == "running":
            lab.runs.start(run_id)
        elif status != "queued":
            lab.runs.finish(run_id, status, reason="as asked")
        lab.runs.tag(run_id, tags or {})
        lab.runs.log(run_id, [(1, metrics)] if metrics else [])
        return run_id

    yield begin
    for run_id in made:
        lab.runs.delete(run_id)


@pytest.fixture
def polled(monkeypatch):
    """The fragments that the page redraws, and their intervals in s."""
    asked, fragment = [], st.fragment

    def record(function, *, run_every=None):
        asked.append((function.__name__, run_every))
        return fragment(function, run_every=run_every)

    monkeypatch.setattr(st, "fragment", record)
    return asked


@pytest.fixture
def done(monkeypatch):
    """Records requested actions instead of doing them; they raise `done.fails` if it is set."""
    asked = SimpleNamespace(calls=[], fails=None)

    def action(name):
        def act(store, run_id):
            asked.calls.append((name, run_id))
            if asked.fails:
                raise asked.fails

        return act

    for name in ("cancel", "relaunch", "delete"):
        monkeypatch.setattr(actions, name, action(name))
    return asked


def buttons(app, run_id):
    """Labels of the buttons of a run."""
    return [button.label for button in app.main.button if (button.key or "").endswith(run_id)]


def test_a_running_run_shows_epoch_and_time_left_and_can_be_stopped(busy):
    app = opened("live")
    assert "running** " not in said(app)
    (progress,) = app.get("progress")
    assert (progress.value, progress.text) == (33, "epoch 2 of 3, 80 s left")
    assert buttons(app, busy.running) == ["Stop"]


def test_curves_of_active_runs_are_shown_first(busy):
    app = opened("live")
    assert app.multiselect(key="run").value == [busy.running]
    assert len(app.get("arrow_vega_lite_chart") or app.get("vega_lite_chart")) == 2
    assert f"`{busy.running[:8]}` last epoch 1: 25%" in said(app)


def test_without_an_active_run_the_newest_is_shown(lab):
    assert opened("live").multiselect(key="run").value == [lab.failed]


def test_the_page_is_redrawn_every_second_while_a_run_is_active(busy, polled):
    opened("live")
    assert set(polled) == {("poll", 1.0)}


def test_the_page_is_not_redrawn_if_no_run_is_active(lab, polled):
    opened("live")
    assert set(polled) == {("poll", None)}


def test_the_page_is_not_redrawn_for_an_interrupted_run(lab, begun, polled):
    begun("running", tags={"mer.owner": GONE})
    opened("live")
    assert set(polled) == {("poll", None)}


def test_a_run_that_ends_while_the_page_is_drawn_is_shown_as_ended(lab, begun, monkeypatch):
    ending, read = begun("running", tags={"mer.stop": "1"}), cached_runs.all_runs

    def read_before_it_ends():
        found = read()
        if any(run.id == ending and run.status == "stopping" for run in found):
            lab.runs.finish(ending, "stopped", reason="as asked")
        return found

    monkeypatch.setattr(cached_runs, "all_runs", read_before_it_ends)
    app = opened("live", run=ending[:8])
    assert "stopped]" in said(app)
    assert buttons(app, ending) == ["Resume", "Delete"]


def test_a_waiting_run_says_what_it_waits_for(lab, begun):
    waiting = begun("queued", tags={"mer.stage": "waiting for a free slot"})
    app = opened("live")
    assert "next in the queue, likely to start soon" in said(app)
    assert buttons(app, waiting) == ["Stop", "Delete"]


def test_a_queued_run_says_its_place_and_when_it_is_likely_to_start(busy, begun):
    first, last = begun("queued"), begun("queued", name="the last")
    busy.runs.log(busy.running, [(41, {"seconds_left": 300.0})])
    app = opened("live", run=last[:8])
    assert "the last" in app.info[0].value
    assert "Queued: number 2 in the queue, likely to start in about 5 min" in as_read(app.info[0].value)
    assert "being prepared" not in said(app)
    app.multiselect(key="run").set_value([first]).run()
    assert "Queued: next in the queue, likely to start in about 5 min" in as_read(app.info[0].value)


def test_a_queued_run_behind_one_of_unknown_length_says_so(lab, begun):
    begun("running", epochs=7)
    waiting = begun("queued")
    words = as_read(opened("live", run=waiting[:8]).info[0].value)
    assert "next in the queue; the time of the runs before it is not known yet" in words


def test_the_page_is_drawn_again_when_a_queued_run_begins_to_work(lab, begun):
    waiting = begun("queued")
    before = states(lab.runs.active())
    lab.runs.start(waiting)
    assert states(lab.runs.active()) != before
    assert "running" in opened("live").multiselect(key="run").options[0]


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"solver": "ridge", "freeze": "head"}, "so no curve grows. When it is solved"),
        ({"freeze": "head"}, "its features are computed first"),
        ({"freeze": "none"}, "The curves begin with the first step"),
    ],
)
def test_a_run_without_curves_says_when_they_come(lab, begun, settings, words):
    run_id = begun("running", tags={"mer.stage": ""}, **settings)
    app = opened("live", run=run_id[:8])
    assert words in as_read(app.info[0].value)


def test_the_sidebar_lists_running_runs_first(busy, begun):
    for number in range(6):
        begun("queued", name=f"number {number}")
    links = [link.label for link in opened("live").sidebar.page_link]
    assert links[0] == "a run under way: running"
    assert links[1] == "number 0: queued"
    assert links[-1] == "and 2 more"


def test_an_interrupted_run_is_not_among_the_first_curves(lab, begun):
    begun("running", tags={"mer.owner": GONE})
    waiting = begun("queued")
    assert opened("live").multiselect(key="run").value == [waiting]


def test_the_wait_in_the_queue_is_told_apart_from_the_work(lab, begun):
    run_id = begun("finished")
    ended, started = lab.runs.get(run_id).ended, lab.runs.get(run_id).started
    lab.runs.tag(run_id, {"mer.worked": str(ended - started - 200)})
    assert "after 3 min in the queue" in said(opened("live", run=run_id[:8]))


def test_a_run_whose_process_died_says_so_and_can_be_resumed(lab, begun):
    assert not psutil.pid_exists(2**22 - 7)
    lost = begun("running", tags={"mer.owner": GONE})
    app = opened("live")
    assert ":orange-badge[:material/warning: interrupted]" in said(app)
    assert "Its process ended unexpectedly" in said(app)
    assert buttons(app, lost) == ["Resume", "Delete"]


def test_a_stopping_run_cannot_be_deleted(lab, begun):
    ending = begun("running", tags={"mer.stop": "1"}, metrics={"progress": 0.5})
    app = opened("live")
    assert "stopping]" in said(app)
    assert buttons(app, ending) == []


@pytest.mark.parametrize(
    ("which", "words", "offered"),
    [
        ("failed", "ZeroDivisionError", ["Resume", "Delete"]),
        ("stopped", "stopped]", ["Resume", "Delete"]),
        ("first", "chance 50%, largest class 50%", ["Delete"]),
    ],
)
def test_an_ended_run_says_how_it_ended_and_has_the_matching_buttons(lab, which, words, offered):
    run_id = getattr(lab, which)
    app = opened("live", run=run_id[:8])
    assert words in said(app)
    assert buttons(app, run_id) == offered


def run_with(status="running", *, folds=0, stage="", parent=None, **metrics):
    spec = {"config": {"split": {"folds": folds}, "train": {"epochs": 10}}}
    return Run("a" * 32, "one", status, 0, None, spec, metrics, parent=parent, tags={"mer.stage": stage})


def test_progress_is_shown_in_epochs():
    words = [progress_of(run_with(progress=share, seconds_left=200.0))[1] for share in (0.05, 0.5, 1.0)]
    assert words == ["epoch 1 of 10, 3 min left", "epoch 6 of 10, 3 min left", "epoch 10 of 10, 3 min left"]
    assert progress_of(run_with("stopped", progress=0.31)) == (0.31, "epoch 4 of 10")


def test_before_training_the_stage_is_shown():
    assert progress_of(run_with(stage="preparing clips: 3 of 16")) == (0, "preparing clips: 3 of 16")
    assert progress_of(run_with())[1] == "preparing"


def test_a_cross_validation_counts_its_folds(monkeypatch):
    parent = run_with(folds=4)
    parts = [run_with("finished", parent=parent.id), run_with(parent=parent.id, progress=0.5), run_with()]
    monkeypatch.setattr(running, "all_runs", lambda: parts)
    assert progress_of(parent) == (0.375, "1 of 4 folds finished")


def test_a_cross_validation_is_shown_with_its_folds(lab, begun):
    parent = begun("running", folds=2)
    begun("finished", parent=parent, folds=2)
    begun("running", parent=parent, folds=2, metrics={"progress": 0.5})
    app = opened("live", run=parent[:8])
    assert "1 of 2 folds finished" in [progress.text for progress in app.get("progress")]
    assert errors(app) == []


@pytest.mark.parametrize(("label", "action"), [("Stop", "cancel"), ("Delete", "delete")])
def test_each_button_calls_its_action(lab, begun, done, label, action):
    waiting = begun("queued")
    app = opened("live")
    assert done.calls == []
    app.button(key=f"{label} {waiting}").click().run()
    assert done.calls == [(action, waiting)]
    assert errors(app) == []


def test_resume_queues_the_run_again(lab, done):
    app = opened("live", run=lab.stopped[:8])
    app.button(key=f"Resume {lab.stopped}").click().run()
    assert done.calls == [("relaunch", lab.stopped)]


def test_a_failed_action_shows_an_error_that_stays(lab, done):
    done.fails = RunError("run is worked on by another process")
    app = opened("live", run=lab.stopped[:8])
    app.button(key=f"Resume {lab.stopped}").click().run()
    assert errors(app) == ["Resume: run is worked on by another process"]


def test_deleting_needs_a_confirmation(lab):
    app = opened("live", run=lab.first[:8])
    (popover,) = app.get("popover")
    assert "Delete **mobilenet" in said(popover)
    assert f"`{lab.first[:8]}`? It can be restored" in said(popover)
    assert [button.label for button in popover.button] == ["Delete"]


def test_each_question_belongs_to_one_run_and_closes_with_the_answer(lab, begun):
    first, second = begun(), begun()
    app = opened("live")
    asked = {popover.proto.popover.id for popover in app.get("popover")}
    assert len(asked) == 2
    app.session_state[f"ask Delete {first}"] = True
    app.button(key=f"Delete {first}").click().run()
    assert lab.runs.get(second).status == "queued"
    assert f"ask Delete {second}" not in app.session_state or not app.session_state[f"ask Delete {second}"]
    assert {popover.proto.popover.id for popover in app.get("popover")} < asked


def test_a_deletion_is_undone_with_one_click(lab, begun):
    waiting = begun(name="a mistake")
    app = opened("live")
    app.button(key=f"Delete {waiting}").click().run()
    assert "a mistake" in as_read(app.info[0].value)
    assert "was deleted. It can be restored" in app.info[0].value
    by_label(app.button, "Undo").click().run()
    assert errors(app) == []
    assert waiting in app.multiselect(key="run").value
    assert lab.runs.get(waiting).status == "stopped"
    assert "was deleted" not in said(app)


def test_a_run_that_someone_else_deleted_is_deleted_calmly(lab, begun):
    waiting = begun()
    app = opened("live")
    lab.runs.delete(waiting)
    app.button(key=f"Delete {waiting}").click().run()
    assert errors(app) == []
    assert "was deleted. It can be restored" in app.info[0].value


@pytest.mark.parametrize("label", ["Stop", "Delete"])
def test_a_button_of_a_run_that_is_gone_says_so_calmly(lab, begun, label):
    waiting = begun()
    app = opened("live")
    remove_files(lab.runs, waiting)
    app.button(key=f"{label} {waiting}").click().run()
    assert errors(app) == []
    assert "is gone: it was deleted before" in as_read(app.info[0].value)


def test_a_double_click_acts_once(lab, done):
    app = opened("live", run=lab.stopped[:8])
    app.button(key=f"Resume {lab.stopped}").click().run()
    app.button(key=f"Resume {lab.stopped}").click().run()
    assert done.calls == [("relaunch", lab.stopped)]


def test_deleted_runs_are_restored_or_removed_for_good(runs_home):
    runs = RunStore.open()
    one, other, _ = (runs.create(name, {}) for name in ("one", "other", "third"))
    for run_id in (one, other):
        runs.finish(run_id, "finished")
        runs.delete(run_id)
    app = opened("live")
    app.toggle(key="show deleted").set_value(True).run()
    app.button(key=f"Restore {one}").click().run()
    assert runs.get(one).status == "finished"
    app.button(key="remove files").click().run()
    assert errors(app) == []
    assert "were removed: " in as_read(app.info[0].value)
    assert not deleted_runs(runs)
    assert "There are none that can be restored" in said(app)


def test_a_stopped_run_is_shown_as_stopped_at_once(lab, begun):
    waiting = begun("queued")
    app = opened("live")
    app.button(key=f"Stop {waiting}").click().run()
    assert lab.runs.get(waiting).status == "stopped"
    assert "stopped]" in said(app)
    assert buttons(app, waiting) == ["Resume", "Delete"]


def test_a_deleted_run_leaves_the_page(lab, begun):
    waiting = begun("queued", name="about to go")
    app = opened("live")
    app.button(key=f"Delete {waiting}").click().run()
    assert not app.exception
    assert not buttons(app, waiting)
    assert waiting not in app.multiselect(key="run").options


def test_a_link_with_more_runs_than_colours_shows_the_first_ones(lab, begun):
    many = [begun("finished") for _ in range(8)]
    app = opened("live", run=[run_id[:8] for run_id in many])
    assert errors(app) == []
    assert app.multiselect(key="run").value == many[:7]


def test_an_ended_run_without_metrics_is_not_shown_as_preparing(lab, begun):
    over = begun("failed")
    app = opened("live", run=over[:8])
    assert not any("being prepared" in info.value for info in app.info)
    begun("running")
    assert any("At work" in info.value for info in opened("live").info)


def test_curves_are_shown_by_step_or_by_epoch(busy):
    app = opened("live", by="epoch")
    assert app.get("segmented_control")[0].value == "epoch"
    assert opened("live", by="fortnight").get("segmented_control")[0].value == "step"


def test_the_log_is_shown_from_its_end(lab):
    path = log_path(lab.failed)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("the beginning\n" + "noise\n" * 2000 + "epoch 1: loss दुख\n", "utf-8")
    app = page_at("live", run=lab.failed[:8]).run()
    by_label(app.toggle, "Show the log").set_value(True)
    (code,) = app.run().code
    path.unlink()
    assert code.value.endswith("epoch 1: loss दुख")
    assert "the beginning" not in code.value


def test_a_log_that_is_cut_within_a_character_is_shown(lab):
    path = log_path(lab.failed)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes("दुख".encode() * 1000)
    tail = actions.log_tail(lab.runs.get(lab.failed))
    path.unlink()
    assert tail.endswith("दुखदुख")


def test_a_run_without_a_log_says_why(lab):
    assert "not launched in the background" in actions.log_tail(lab.runs.get(lab.first))
    log_path(lab.first).parent.mkdir(parents=True, exist_ok=True)
    log_path(lab.first).touch()
    assert actions.log_tail(lab.runs.get(lab.first)) == "(nothing yet)"
    log_path(lab.first).unlink()
