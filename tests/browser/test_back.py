"""The browser's back button leaves a page, and undoes a choice on it."""

from tests.browser.conftest import settle, text_of


def test_back_leaves_each_page_in_two_presses(server, page):
    page.goto(server.url)
    settle(page)
    for name in ("Predict", "Data", "Live", "Compare", "Confusion", "Map"):
        page.get_by_test_id("stSidebarNav").get_by_text(name, exact=True).click()
        page.wait_for_url(f"**/{name.lower()}**")
        settle(page)
        for _ in range(2):
            if f"/{name.lower()}" in page.url:
                page.go_back()
                settle(page)
        assert page.url.rstrip("/") == server.url, name


def test_back_undoes_a_choice(server, page):
    page.goto(f"{server.url}/confusion")
    page.get_by_role("radio", name="row %").click()
    page.wait_for_url("**show=row*")
    settle(page)
    page.go_back()
    page.wait_for_url(f"{server.url}/confusion")
    page.get_by_role("radio", name="counts", checked=True).wait_for()


def test_a_link_to_a_run_that_is_gone_says_so(server, page):
    page.goto(f"{server.url}/live?run=abcdef12")
    settle(page)
    assert "No run 'abcdef12' here; it may have been deleted. Showing " in text_of(page)
