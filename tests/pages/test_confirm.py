"""The part that asks before something is taken away."""

from streamlit.testing.v1 import AppTest

from tests.page_helpers import ROOT, errors, said


def form():
    import streamlit as st

    from mer.utils.errors import DataError
    from pages._ui.parts.confirm import confirm

    things = st.session_state.setdefault("things", ["one", "two"])

    def take(name):
        if name not in things:
            raise DataError(f"{name} is locked; unlock it")
        things.remove(name)

    for name in things:
        confirm(f"take {name}", f"Take {name}?", "Take it", take, name)
    confirm("take three", "Take three?", "Take it", take, "three")


def test_a_question_names_one_thing_and_closes_with_the_answer():
    app = AppTest.from_function(form).run()
    app.session_state["ask take one"] = True
    ids = [popover.proto.popover.id for popover in app.get("popover")]
    app.button(key="take one").click().run()
    assert app.session_state["things"] == ["two"]
    assert [popover.proto.popover.id for popover in app.get("popover")] == ids[1:]
    assert not app.session_state["ask take two"]
    assert "Take one?" not in said(app)


def test_an_answer_that_fails_says_why():
    app = AppTest.from_function(form).run()
    app.button(key="take three").click().run()
    assert errors(app) == ["three is locked; unlock it"]
    assert errors(app.run()) == []


def test_no_page_asks_in_another_way():
    users = {
        path.relative_to(ROOT).as_posix()
        for path in (ROOT / "pages").rglob("*.py")
        if "st.popover(" in path.read_text("utf-8")
    }
    assert users == {"pages/_ui/parts/confirm.py"}
