"""Choices are kept in the address: a link opens the same view, and unknown values are named."""

import pytest
from streamlit.runtime.state.query_params import QueryParams
from streamlit.testing.v1 import AppTest


def form():
    import streamlit as st

    from pages._ui.shell.links import arrive, chosen, remember, write_address

    options = st.session_state.get("options", ["red-1", "green-2", "blue-3"])
    elsewhere = st.session_state.get("elsewhere", False)
    arrive("elsewhere" if elsewhere else "here")
    chosen("one", options, default=["green-2"])
    remember("one", st.selectbox("One", options, key="one"))
    if not elsewhere:
        chosen("some", options, default=["red-1"], many=2, what="colour", called=str.upper)
        remember("some", st.multiselect("Some", options, key="some", max_selections=2))
    write_address()


def app_at(**query):
    app = AppTest.from_function(form, default_timeout=30)
    app.query_params.update(query)
    return app.run()


def values(app):
    assert not app.exception
    return app.selectbox[0].value, app.multiselect[0].value


def test_without_an_address_the_defaults_are_chosen_and_nothing_is_written():
    app = app_at()
    assert values(app) == ("green-2", ["red-1"])
    assert values(app.run()) == ("green-2", ["red-1"])
    assert app.query_params == {}


def test_the_first_choice_writes_the_whole_view_to_the_address_at_once(monkeypatch):
    writes, write = [], QueryParams._send_query_param_msg
    monkeypatch.setattr(QueryParams, "_send_query_param_msg", lambda self: writes.append(write(self)))
    app = app_at()
    app.selectbox[0].select("red-1")
    assert values(app.run()) == ("red-1", ["red-1"])
    assert app.query_params == {"one": "red-1", "some": "red-1"}
    assert values(app.run()) == ("red-1", ["red-1"])
    assert len(writes) == 1


def test_going_back_to_the_address_without_choices_shows_the_defaults_again():
    app = app_at()
    app.selectbox[0].select("red-1")
    app.multiselect[0].set_value(["blue-3", "green-2"]).run()
    app.query_params.clear()
    assert values(app.run()) == ("green-2", ["red-1"])
    assert app.query_params == {}


def test_an_address_opens_the_view_that_it_names():
    app = app_at(one="blue-3", some=["green-2", "blue-3"])
    assert values(app) == ("blue-3", ["green-2", "blue-3"])


def test_the_beginning_of_a_value_is_enough():
    assert values(app_at(one="bl", some=["gr"])) == ("blue-3", ["green-2"])


@pytest.mark.parametrize("value", ["purple", "", "RED", "red-1; drop table"])
def test_a_value_that_is_not_an_option_is_dropped(value):
    app = app_at(one=value, some=[value, "blue-3"])
    assert values(app) == ("green-2", ["blue-3"])


def test_a_value_that_is_not_there_is_named_until_something_else_is_chosen():
    app = app_at(one="purple", some=["pink`", "blue"])
    words = "No colour 'pink\\`' here; it may have been deleted. Showing BLUE\\-3."
    assert [info.value for info in app.info] == [words]
    assert [info.value for info in app.run().info] == [words]
    app.multiselect[0].set_value(["green-2"]).run()
    assert app.query_params == {"one": "green-2", "some": "green-2"}
    assert not app.run().info


def test_an_option_that_disappears_after_it_was_shown_is_not_called_unknown():
    app = app_at(some=["blue-3", "green-2"])
    app.session_state["options"] = ["red-1", "green-2"]
    assert not app.run().info


def test_with_only_unknown_values_the_defaults_are_chosen():
    assert values(app_at(some=["purple", "pink"])) == ("green-2", ["red-1"])


def test_more_values_than_may_be_chosen_are_cut():
    assert values(app_at(some=["red", "green", "blue"]))[1] == ["red-1", "green-2"]


def test_a_choice_is_written_to_the_address():
    app = app_at()
    app.selectbox[0].select("red-1")
    app.multiselect[0].set_value(["blue-3", "green-2"])
    assert values(app.run()) == ("red-1", ["blue-3", "green-2"])
    assert app.query_params == {"one": "red-1", "some": ["blue-3", "green-2"]}


def test_all_choices_can_be_removed():
    app = app_at(some=["blue-3"])
    app.multiselect[0].set_value([]).run()
    assert values(app.run()) == ("green-2", [])
    assert "some" not in app.query_params


def test_an_option_that_no_longer_exists_is_not_chosen():
    app = app_at(one="blue-3", some=["blue-3", "green-2"])
    app.session_state["options"] = ["red-1", "green-2"]
    assert values(app.run()) == ("green-2", ["green-2"])


def test_if_no_chosen_option_exists_any_more_the_defaults_are_chosen():
    app = app_at(some=["blue-3"])
    app.session_state["options"] = ["red-1", "green-2"]
    assert values(app.run())[1] == ["red-1"]


def test_a_new_address_replaces_an_earlier_choice():
    app = app_at()
    app.selectbox[0].select("red-1").run()
    app.query_params["one"] = "blue-3"
    assert values(app.run())[0] == "blue-3"


def test_a_choice_is_kept_after_a_visit_to_another_page():
    app = app_at()
    app.multiselect[0].set_value(["blue-3"]).run()
    app.session_state["elsewhere"] = True
    app.run()
    app.session_state["elsewhere"] = False
    app.query_params.clear()
    assert values(app.run())[1] == ["blue-3"]


def test_a_choice_that_is_shortened_in_the_address_is_kept_too():
    app = app_at()
    app.session_state["elsewhere"] = True
    app.run()
    app.session_state["elsewhere"] = False
    app.session_state["last some"] = ["blue"]
    assert values(app.run())[1] == ["blue-3"]


def test_without_options_nothing_breaks():
    app = AppTest.from_function(form, default_timeout=30)
    app.session_state["options"] = []
    assert values(app.run()) == (None, [])
