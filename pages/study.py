"""The 2022 study: its six confusion matrices, with intervals and baselines."""

import streamlit as st

from mer.experiments.study2022.published import (
    CLASSES,
    DEVIATIONS,
    RESULTS,
    SOURCE,
    TEST_CLIPS,
    PublishedResult,
    majority,
)
from mer.metrics.score import Score
from pages._ui.charts.base import draw, forest
from pages._ui.charts.confusion import matrix, most_confused
from pages._ui.frame import page
from pages._ui.shell.links import chosen, page_file, remember
from pages._ui.shell.style import percent


def score_of(result: PublishedResult) -> Score:
    """Its accuracy with its exact interval."""
    return Score(result.accuracy, *result.interval)


def show_result(result: PublishedResult, shares: bool) -> None:
    """One matrix; its caption counts the clips that were assigned no emotion."""
    draw(
        matrix(result.confusion, CLASSES, result.columns, shares=shares, title=result.name),
        key=f"study {result.name} {shares}",
    )  # fmt: skip
    outside = (
        f" **{result.outside} clips were assigned no emotion**, but an ImageNet class."
        if result.outside
        else ""
    )
    st.caption(f"{score_of(result)}, {TEST_CLIPS} clips. {most_confused(result.confusion, CLASSES)}{outside}")


with page("2022 study"):
    st.title("The study of 2022")
    beaten = sum(result.accuracy > majority() for result in RESULTS)
    clear = sum(result.above_majority for result in RESULTS)
    st.write(
        f"Six networks, each trained for five epochs on MER500 and tested on the same {TEST_CLIPS} clips. "
        f"Always predicting the largest class would score {percent(majority())}. {beaten} of the six "
        f"networks score more than that; for {clear} the whole interval lies above it (exact binomial test)."
    )
    accuracies = forest(
        [result.name for result in RESULTS], [score_of(result) for result in RESULTS],
        chance=1 / len(CLASSES), majority=majority(), title="Accuracy with 95% interval", highest=0.6,
    )  # fmt: skip
    draw(accuracies, key="accuracies")
    st.caption(
        "These are exact intervals (Clopper and Pearson), which assume that clips are independent. The study "
        "did not keep songs apart, so the true intervals may be wider and the scores may be inflated."
    )
    st.subheader("Confusion matrices")
    chosen("show", ["counts", "row %"])
    shares = st.segmented_control("Show", ["counts", "row %"], key="show", required=True) == "row %"
    remember("show", "row %" if shares else "counts")
    for number, result in enumerate(RESULTS):
        if number % 2 == 0:
            columns = st.columns(2)
        with columns[number % 2]:
            show_result(result, shares)
    st.subheader("The effect of 1000 outputs")
    st.write(
        "The networks kept the ImageNet output layer with 1000 classes. The first five outputs were trained "
        "as the emotions. In the test some clips were assigned one of the other 995, which is always wrong; "
        "they are in the columns after the fifth. This project replaces the output layer by one with an "
        "output per emotion."
    )
    st.subheader("Differences between the report and the code")
    st.page_link(
        page_file("ladder"),
        label="Measure what each difference is worth on your data",
        icon=":material/stairs:",
    )
    rows = [{"": topic, "the report": said, "the released code": did} for topic, said, did in DEVIATIONS]
    st.table(rows)
    st.caption(f"Source: {SOURCE}")
