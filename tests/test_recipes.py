"""The recipes that stand in the repository: each can be read, and a model that ships saw only what may ship."""

from pathlib import Path

import pytest
import yaml

from trasluz.training.recipe import DataSection
from trasluz.training.recipe_file import read_recipe

RECIPES = sorted(Path(__file__).parents[1].glob("recipes/*.yaml"))
HEADS = sorted(Path(__file__).parents[1].glob("recipes/pocket-bert/*.yaml"))
POCKET = Path(__file__).parents[1] / "src/trasluz/pocket"

# Rows of these sources may be learnt from by a model that is shipped: CC-BY, PSF licence and public domain.
MAY_SHIP = {"tatoeba", "tldr", "react.dev", "python-docs", "bible-kjv-rv1909"}
# Whole files that may be, too: a book of 1605 and 1615 in the public domain.
BOOKS = {"runs/sets/quijote/train.txt": "quijote"}


def learnt_from(data: DataSection) -> set[str]:
    """Return the sources of a recipe's training text; one that is not known to be permitted fails the test."""
    if data.sources is not None:
        return set(data.sources)
    assert isinstance(data.train, str)
    return {BOOKS[data.train]}


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_every_recipe_can_be_read(path: Path) -> None:
    recipe = read_recipe(path)
    assert recipe.output == f"runs/{path.stem}"


@pytest.mark.parametrize(
    "path", [path for path in RECIPES if path.stem.startswith("pocket-")], ids=lambda path: path.stem
)
def test_a_model_that_ships_learns_only_from_what_may_ship(path: Path) -> None:
    data = read_recipe(path).data
    assert learnt_from(data) <= MAY_SHIP | set(BOOKS.values())
    if data.sources is None:
        return
    unseen = " ".join(map(str, data.exclude))
    for test_set in ("tatoeba-test-v2021-08-07", "newstest2013", "newstest2019-{src.eng,ref.spa}"):
        assert test_set in unseen


@pytest.mark.parametrize("path", HEADS, ids=lambda path: path.stem)
def test_a_head_that_ships_learns_only_from_what_may_ship(path: Path) -> None:
    recipe = read_recipe(path)
    assert recipe.output == f"runs/pocket-bert-{path.stem}"
    train = recipe.data.train
    for name in train if isinstance(train, list) else [train]:
        # Sentences of our own, which stand beside the recipe, or the articles of XQuAD (CC-BY-SA 4.0).
        assert Path(name).parent == Path("recipes/pocket-bert") or name in {
            "runs/sets/xquad-en/train.json",
            "runs/sets/xquad-es/train.json",
        }


@pytest.mark.parametrize("folder", sorted(POCKET.glob("pocket-*")), ids=lambda folder: folder.name)
def test_a_shipped_model_was_trained_so(folder: Path) -> None:
    trained = yaml.safe_load((folder / "recipe.yaml").read_text(encoding="utf-8"))
    wanted = read_recipe(Path(__file__).parents[1] / "recipes" / f"{folder.name}.yaml")
    assert trained["data"]["sources"] == wanted.data.sources
    if wanted.data.sources is None:
        assert trained["data"]["train"] == wanted.data.train
    card = (folder / "README.md").read_text(encoding="utf-8")
    for source in learnt_from(wanted.data):
        assert source.lower() in card.lower()
    assert sum(file.stat().st_size for file in folder.iterdir()) <= 20_000_000
