"""Class vote: open a vote, join it, vote on every clip, and see the results."""

from pathlib import Path

import pytest

from mer.data.library import add, forget, known
from mer.data.listening import create, remove
from mer.data.listening import known as sessions
from mer.data.load import load_dataset
from pages._ui.parts.new_session import drawn
from tests.page_helpers import by_label, errors, links, opened, page_at, said


@pytest.fixture
def session(lab):
    return create("What do we hear?", load_dataset(lab.corpus).clips[:3], ("Happy", "Sad"))


@pytest.fixture(autouse=True)
def no_sessions_stay(lab):
    yield
    for session in sessions():
        remove(session.key)


def press(app, label):
    return by_label(app.button, label).click().run()


def joined(session, name="Asha"):
    app = opened("vote", session=session.key)
    by_label(app.text_input, "Nickname").set_value(name)
    return press(app, "Begin")


def choose(app, emotion):
    by_label(app.pills, "Which emotion").set_value(emotion)
    return press(app.run(), "Save and go on")


def test_a_vote_is_opened_with_clips_of_a_data_set(lab, checked):
    app = opened("vote")
    assert not errors(app)
    by_label(app.text_input, "Title").set_value("Monday")
    press(app, "Open the vote")
    (session,) = sessions()
    assert (session.title, session.classes) == ("Monday", ("Happy", "Sad"))
    assert f"session={session.key}" in said(app)


def test_a_listener_joins_and_votes_on_every_clip(session):
    app = joined(session)
    assert not errors(app)
    for _ in range(3):
        app = choose(app, "Sad")
    assert "All your choices are saved" in said(app)
    assert [(vote.listener, vote.emotion, vote.sure) for vote in session.votes()] == [("Asha", "Sad", 1)] * 3


def test_a_listener_hears_clips_without_name_and_label(session):
    app = joined(session)
    for piece in session.pieces:
        assert piece.name not in said(app)
    assert "label" not in said(app)


def test_a_reload_goes_on_where_the_listener_was(session):
    app = choose(joined(session), "Happy")
    token = app.query_params["me"]
    again = opened("vote", session=session.key, me=token)
    assert "Clip 2" in said(again)
    assert len(session.votes(token)) == 1


def test_a_choice_can_be_changed(session):
    app = choose(joined(session), "Happy")
    app = choose(press(app, "Back to the clip before"), "Sad")
    assert [vote.emotion for vote in session.votes()] == ["Sad"]
    assert "Clip 2" in said(app)


def test_a_nickname_that_is_taken_is_refused_with_the_remedy(session):
    session.join("Asha")
    app = joined(session)
    assert "add a letter or a number" in errors(app)[0]


def test_a_nickname_is_shown_as_plain_text(session):
    assert r"\*\*bold\*\*" in str(joined(session, "**bold**").get("progress")[0].proto.text)


def test_the_link_of_an_unknown_session_says_so(lab):
    assert "no listening session" in errors(opened("vote", session="00000000"))[0]


def test_results_wait_until_they_are_asked_for(session):
    token = session.join("Asha")
    session.vote(token, 0, "Happy", 2)
    app = opened("vote")
    assert "1 listener, 1 of 3 votes" in said(app)
    assert "Do we agree?" not in said(app)


def test_results_compare_the_class_with_the_network(session, monkeypatch):
    for name, emotions in {"Asha": ("Happy", "Happy", "Sad"), "Ravi": ("Happy", "Sad", "Sad")}.items():
        token = session.join(name)
        for clip, emotion in enumerate(emotions):
            session.vote(token, clip, emotion, 1)
    app = page_at("vote", model="demo_mobilenet_v3_small").run()
    by_label(app.toggle, "Show the results").set_value(True).run()
    assert not errors(app)
    assert "Krippendorff's alpha is" in said(app)
    rows = app.dataframe[0].value
    assert list(rows["who"])[:2] == ["a listener", "the class by most votes"]
    assert len(rows) == 3
    assert "Where class and network part" in said(app)


def test_the_votes_become_a_data_set_to_train_on(session):
    token = session.join("Asha")
    for clip in range(3):
        session.vote(token, clip, "Happy" if clip else "Sad", 1)
    app = opened("vote")
    by_label(app.toggle, "Show the results").set_value(True).run()
    before = {entry.key for entry in known()}
    app = press(app, "Make a data set of the votes")
    (new,) = [entry for entry in known() if entry.key not in before]
    assert any("train" in link for link in links(app))
    forget(new.key)
    clips = load_dataset(Path(new.path), **new.reading).clips
    assert [clip.label for clip in clips] == ["Sad", "Happy", "Happy"]


def test_a_vote_can_be_deleted(session):
    press(opened("vote"), "Delete it")
    assert sessions() == []


def test_nobody_can_vote_on_a_read_only_dashboard(session, monkeypatch):
    app = opened("vote", session=session.key)
    monkeypatch.setenv("MER_READ_ONLY", "1")
    by_label(app.text_input, "Nickname").set_value("Asha")
    assert "read-only" in errors(press(app, "Begin"))[0]


def test_clips_are_drawn_from_all_classes_and_from_as_many_songs_as_possible(lab, checked):
    from pages._ui.cached.datasets import report

    found = report(add(lab.corpus))
    clips = drawn(found, 6, seed=1)
    assert sorted(clip.label for clip in clips) == ["Happy"] * 3 + ["Sad"] * 3
    assert len({clip.song for clip in clips}) == 6
    assert len(drawn(found, 100, seed=1)) == len(found.dataset.clips)
    assert drawn(found, 6, seed=1) == clips
