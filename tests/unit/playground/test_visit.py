"""One visitor's page: the model in use, the theme, the tab in front, and who hears of them."""

from __future__ import annotations

import dataclasses

from subgpt.playground.visit import Visit


def test_a_model_is_chosen_among_those_that_are_served(served):
    other = dataclasses.replace(served, name="other")
    visit, heard = Visit([served, other], None, served), []
    visit.on_model(lambda: heard.append(visit.chosen.name))
    visit.choose("other")
    visit.choose("other")
    visit.choose("/etc/passwd")
    assert heard == ["other"]
    assert visit.chosen is other


def test_changes_are_heard_of_once(served):
    visit, heard = Visit([served], None, served), []
    visit.on_looks(lambda: heard.append(visit.dark))
    visit.on_tab(lambda: heard.append(visit.tab))
    for dark in (False, True, True):
        visit.look(dark)
    visit.turn_to("tokens")
    visit.turn_to("chat")
    assert heard == [True, "chat"]


def test_two_visitors_choose_for_themselves(served):
    other = dataclasses.replace(served, name="other")
    one, two = (Visit([served, other], None, served) for _ in range(2))
    one.choose("other")
    assert (one.chosen.name, two.chosen.name) == ("other", served.name)
