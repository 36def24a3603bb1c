"""Parts of the page Ladder: launch and watch a ladder, and show the effect of each change."""

from contextlib import suppress
from dataclasses import replace
from uuid import uuid4

import streamlit as st

from mer.config.inputs import required_input
from mer.data.library import Entry
from mer.experiments.prepared import Spec
from mer.experiments.study2022.ladder import RungResult, rungs
from mer.experiments.study2022.published import CLASSES, RESULTS, TEST_CLIPS, majority
from mer.metrics.comparison import Comparison
from mer.metrics.score import Score
from mer.metrics.scores import columns
from mer.runs.run import ACTIVE, Run
from mer.runs.store import RunStore
from mer.utils.errors import RunError
from mer.utils.progress import duration
from pages._ui.charts.base import draw, forest
from pages._ui.charts.confusion import matrix
from pages._ui.parts.launch import launch_all, spec_of, time_needed
from pages._ui.parts.run_row import show_run
from pages._ui.shell.changes import cancel
from pages._ui.shell.links import chosen, remember
from pages._ui.shell.permission import button, refusal
from pages._ui.shell.style import percent, plain, unbroken

__all__ = ["ask_ladder", "show_published", "show_steps", "show_work"]

STARTS = {"imagenet": "ImageNet weights", "none": "random weights"}


def ask_ladder(entry: Entry) -> None:
    """Choose network and start, and launch; then the address names the new ladder."""
    from mer.models.zoo import ZOO  # torch

    left, right = st.columns(2)
    with left:
        names = [name for name in ZOO if not required_input(name)]  # the study trained image networks
        chosen("network", names, default=["efficientnet_lite0"])
        backbone = st.selectbox("Network", names, key="network")
        remember("network", backbone)
    here = ZOO[backbone].source.available()
    with right:
        chosen("weights", list(STARTS), default=["imagenet" if here else "none"])
        weights = st.selectbox("Start from", list(STARTS), format_func=STARTS.get, key="weights")
        remember("weights", weights)
    if weights == "imagenet" and not here:
        st.caption(f"The ImageNet weights of {backbone} are not on this machine. The runs download them.")
    if weights == "none":
        st.caption("With random weights every rung trains a head on random filters: expect scores at chance.")
    specs = _specs(entry, backbone, weights)
    st.caption(f"{len(specs)} runs, one after another: {', '.join(rung.title for rung in rungs())}.")
    with st.container(horizontal=True, vertical_alignment="center"):
        if button("Launch the ladder", type="primary", icon=":material/rocket_launch:"):
            first, *_ = launch_all(specs)
            st.query_params["ladder"] = RunStore.open().get(first).spec["ladder"][:8]
            st.rerun()
        if st.button("How long will it take?"):
            st.write(f"About {duration(time_needed(entry, specs))} on this machine.")


def _specs(entry: Entry, backbone: str, weights: str) -> list[Spec]:
    """The requests for the runs of a new ladder."""
    name = uuid4().hex
    return [
        replace(spec_of(entry, rung.config, rung.preset), ladder=name, rung=rung.key)
        for rung in rungs(backbone=backbone, weights=weights)
    ]


def show_work(runs: list[Run]) -> None:
    """Progress of the ladder; a row for each run that is running, or that ended unfinished."""
    left = [run for run in runs if run.status in ACTIVE]
    done = sum(run.status == "finished" for run in runs)
    if left:
        with st.container(horizontal=True, vertical_alignment="center"):
            st.progress(done / len(runs), text=f"{done} of {len(runs)} rungs finished")
            if not refusal():
                st.button("Stop the ladder", icon=":material/stop:", on_click=_stop, args=(left,))
    for run in runs:
        if run.status not in ("finished", "queued"):
            show_run(run)


def _stop(runs: list[Run]) -> None:
    """Cancel all runs that have not ended, the last first, so that no other run starts."""
    if refusal():  # permission may have ended since the button was drawn
        return
    store = RunStore.open()
    for run in reversed(runs):
        with suppress(RunError):  # it ended or was deleted in the meantime
            cancel(store, run.id)


def show_steps(steps: list[RungResult]) -> None:
    """The score of each rung, as a chart and a table."""
    done = [step for step in steps if step.scores]
    numbers = {step.run.id: _number(place, step) for place, step in enumerate(steps)}
    first = done[0].scores
    draw(
        forest(
            [f"{numbers[step.run.id]} {step.titled}" for step in done],
            [Score.from_scores(step.scores) for step in done],
            chance=first["chance"], majority=first["majority"], title="Accuracy by song with 95% interval",
        ),
        key="rungs",
    )  # fmt: skip
    st.caption(
        f"{first['n_clips']} test clips of {first['n_songs']} songs. Two rungs may differ although their "
        "intervals overlap: the change in the table tells them apart."
    )
    st.table([_row(numbers[step.run.id], step) for step in steps])
    st.caption(
        "Change: accuracy by song against the rung before, with its 95% interval, and whether the two can be "
        "told apart: McNemar's exact test over songs. The interval excludes 0 if p is below 0.05, and only "
        "then. No class: clips assigned one of the other ImageNet classes, which is always wrong."
    )


def _number(place: int, step: RungResult) -> str:
    return "–" if step.aside else f"{place}"


def _row(number: str, step: RungResult) -> dict[str, str]:
    """The row of one rung in the table."""
    settings = "; ".join(f"{name}: {before} → {now}" for name, (before, now) in step.changed.items())
    found = step.scores
    return {
        "": number,
        "switch": f"**{plain(step.titled)}**",
        "description": step.text + (f" ({plain(settings)})" if settings else ""),
        "by song": unbroken(str(Score.from_scores(found))) if found else step.run.status,
        "change": _change(step.comparison) if step.comparison else step.note,
        "no class": percent(found["outside"]) if found and "outside" in found else "",
    }


def _change(found: Comparison) -> str:
    words = found.verdict.words("better", "worse")
    return f"{unbroken(found.verdict.difference.points)}, {words}"


def _order(found: dict | None) -> list[int]:
    """Indices of the published classes in the order of `found`, if it has the same classes."""
    classes = found["classes"] if found else []
    return [CLASSES.index(name) for name in (classes if set(classes) == set(CLASSES) else CLASSES)]


def show_published(steps: list[RungResult]) -> None:
    """The matrix of the lowest rung next to a published one, of the same network if there is one."""
    st.subheader("Compared with the published results")
    best, second = RESULTS[:2]
    st.write(
        f"On {TEST_CLIPS} clips of MER500 the study's best networks scored {best.accuracy:.1%} ({best.name}) "
        f"and {second.accuracy:.1%} ({second.name}); always predicting the largest class scores "
        f"{majority():.1%}."
    )
    lowest = steps[0]
    network = lowest.run.spec.get("config", {}).get("train", {}).get("backbone")
    result = next((result for result in RESULTS if result.name == network), best)
    left, right = st.columns(2)
    with left:
        if lowest.scores:
            found = lowest.scores
            draw(
                matrix(
                    found["confusion"], found["classes"], columns(found), shares=False,
                    title="The lowest rung",
                ),
                key="lowest",
            )  # fmt: skip
            st.caption(f"{Score.from_scores(found, 'accuracy')} by clip.")
        else:
            st.info("The matrix of the lowest rung appears here when its run has finished.")
    with right:
        order = _order(lowest.scores)
        answers = [*order, *range(len(CLASSES), len(result.columns))]
        draw(
            matrix(
                [[result.confusion[i][j] for j in answers] for i in order],
                [CLASSES[i] for i in order], [result.columns[j] for j in answers], shares=False,
                title=f"Published: {result.name} on MER500",
            ),
            key="published",
        )  # fmt: skip
        st.caption(f"{Score(result.accuracy, *result.interval)} by clip.")
