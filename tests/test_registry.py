"""The registry of attacks: its facts agree with the functions, its specs pickle."""

import inspect
import json
import pickle
import re

import pytest

from art_ext import tables
from art_ext.benchmarks.cost import CASES
from art_ext.core import attacks
from art_ext.core.attacks import registry
from art_ext.core.attacks.registry import ACCESS, AttackSpec, get, names, register
from art_ext.evaluation.panel.panels import PANELS

SPECS = registry.specs()


def test_lists_every_public_function():
    assert sorted(names()) == attacks.__all__
    assert len(names()) >= 17
    for name in names():
        assert getattr(attacks, name) is get(name).function


def test_orders_by_what_an_attack_needs_of_the_model():
    ranks = [ACCESS.index(get(name).access) for name in names()]
    assert ranks == sorted(ranks)
    assert names(access="labels") == ["opt", "rays", "sign_opt"]
    found = names(access="scores", family="fixed-radius")
    assert found == sorted(found)
    assert {"frank_wolfe_black_box", "nes"} <= set(found)
    assert not {"rays", "zoo", "pgd"} & set(found)
    assert "rays" in names(norm="l2")
    assert names(norm="L2") == names(norm="2") == names(norm="l2")


@pytest.mark.parametrize("spec", SPECS, ids=lambda spec: spec.name)
def test_spec_agrees_with_its_function(spec):
    assert pickle.loads(pickle.dumps(spec)) == spec  # noqa: S301
    assert spec.name == spec.function.__name__
    # a radius is required by attacks that work within it
    required = spec.parameters["eps"] is inspect.Parameter.empty
    assert required == (spec.family == "fixed-radius")
    assert bool(spec.no_targets) == ("targeted" not in spec.parameters)
    assert spec.summary.endswith(".")
    assert re.search(r" \d{4}\.$", spec.paper)


def test_finds_a_name_in_any_case_and_names_the_nearest():
    assert get("RAYS") is get("rays")
    with pytest.raises(ValueError, match=r"got 'ray' .did you mean 'rays'"):
        get("ray")
    with pytest.raises(ValueError, match="access must be one of"):
        names(access="label")


def test_keeps_a_name_for_one_function():
    def rays(model, x, y, *, eps):
        return x

    with pytest.raises(ValueError, match="art-ext has an attack 'rays'"):
        register(AttackSpec("RayS", rays, "unknown", "fixed-radius", "Another.", budget=""))
    register(get("rays"))  # a module that is loaded again
    assert names().count("rays") == 1


def test_rejects_facts_that_the_function_contradicts():
    with pytest.raises(ValueError, match=r"has no keyword 'queries' .did you mean 'max_queries'"):
        AttackSpec("pgd", attacks.pgd, "gradients", "fixed-radius", "PGD.", budget="queries")
    with pytest.raises(ValueError, match="family must be one of"):
        AttackSpec("pgd", attacks.pgd, "gradients", "ball", "PGD.")


@pytest.mark.parametrize("page", tables.pages(), ids=lambda page: page.name)
def test_tables_of_the_documentation_are_those_of_the_registry(page):
    text = page.read_text(encoding="utf-8")
    assert tables.with_tables(text, page) == text, "run make tables"


def test_every_attack_is_in_the_tables():
    for page in ("README.md", "docs/hosts/pytorch.md", "docs/reference/attack-names.md"):
        text = (tables.ROOT / page).read_text(encoding="utf-8")
        assert [name for name in names() if f"`{name}`" not in text] == []
    for spec in SPECS:
        assert (tables.ROOT / "docs" / spec.page).is_file()


def test_the_table_of_costs_names_attacks_and_panels_that_exist():
    content = json.loads((tables.ROOT / "benchmarks" / "cost.json").read_text(encoding="utf-8"))
    known = {*names(), *(f"panel {name}" for name in PANELS)}
    assert set(content["networks"]) <= set(CASES)
    for network in content["networks"].values():
        assert set(network["subjects"]) <= known
        for found in network["subjects"].values():
            assert found["forward"] <= found["most_forward"]
            assert found["backward"] <= found["most_backward"]
            assert 0 <= found["robust"] <= 1
