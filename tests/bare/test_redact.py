"""What is to be hidden is hidden in a web process, which has imported no task."""

from __future__ import annotations

import pytest

from tests.bare.house import SECRET, fields


@pytest.mark.parametrize("image", ["", "tasks"], ids=["not imported", "not in the image"])
def test_no_page_shows_what_is_hidden(house, image):
    node, workflow = house.made["charged"], house.made["workflow"]
    base = "/admin/backbeat_celery"
    tree, page = f"{base}/workflow/{workflow}/", f"{base}/node/{node}/"
    with house.without(image).web() as browser:
        for user, addresses in {
            "kim": [f"{page}change/", f"{tree}change/", f"{tree}live/", f"{base}/"],
            "root": [f"{tree}change/", f"{page}change/?whole", f"{page}act/edit_arguments/"],
        }.items():
            browser.login(user)
            for address in addresses:
                assert SECRET not in browser.get(address), (user, address)
        shown = browser.get(f"{page}change/")
        assert "no 56 from •••" in shown if not image else "no ••• from •••" in shown
        assert ("56" in shown) is not image
        browser.post(f"{page}act/retry/", **fields(browser.get(f"{page}act/retry/")))
    [headers] = house.messages()
    assert headers["id"] and headers["argsrepr"] == ("('***', '***')" if image else "('***', 56)")


def test_commands_print_no_hidden_value(house):
    for image, options in (("", ["--json"]), ("tasks", ["--explain"])):
        printed = house.without(image).manage("backbeat_tree", *options)
        assert "from ***" in printed and SECRET not in printed, (image, options)
