"""Eight-bit layers near the layers they replace, and each row by itself."""

import copy
import weakref

import pytest
import torch
from tests.models.zoo import SMALL_MODELS, random_batch, small_model
from torch import nn

from trasluz.errors import RequestError
from trasluz.layers.embeddings import OutputHead, TokenEmbedding
from trasluz.layers.int8 import Int8Embedding, Int8Linear, Int8OutputHead, to_int8
from trasluz.layers.kernels import load_kernels

SIZES = [(7, 5), (64, 33), (300, 128)]


def relative(found: torch.Tensor, expected: torch.Tensor) -> float:
    return float((found - expected).norm() / expected.norm())


@pytest.fixture(params=["compiled", "fbgemm"], autouse=True)
def engine(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    if request.param == "fbgemm":
        monkeypatch.setattr("trasluz.layers.int8.load_kernels", lambda: None)
    elif load_kernels() is None:
        pytest.skip("the compiled kernels are not there")
    return str(request.param)


@pytest.mark.parametrize(("inputs", "outputs"), SIZES)
@torch.no_grad()
def test_a_linear_layer(inputs: int, outputs: int) -> None:
    linear = nn.Linear(inputs, outputs)
    rounded = Int8Linear(linear)
    # Rows of very different size: each has its own scale.
    x = torch.randn(4, 6, inputs) * torch.logspace(-3, 3, 6)[:, None]
    found, expected = rounded(x) - linear.bias, linear(x) - linear.bias
    for row in range(6):
        assert relative(found[:, row], expected[:, row]) < 0.05
    assert relative(rounded.weight, linear.weight) < 0.01


@pytest.mark.parametrize(("inputs", "outputs"), SIZES)
@torch.no_grad()
def test_a_row_is_the_same_to_the_bit_whatever_stands_beside_it(inputs: int, outputs: int) -> None:
    rounded = Int8Linear(nn.Linear(inputs, outputs))
    x = torch.randn(9, inputs) * torch.logspace(-2, 2, 9)[:, None]
    together = rounded(x)
    for row in range(9):
        assert torch.equal(rounded(x[row : row + 1])[0], together[row])


@torch.no_grad()
def test_rows_of_zeros_and_no_rows() -> None:
    linear = nn.Linear(8, 4)
    rounded = Int8Linear(linear)
    assert torch.equal(rounded(torch.zeros(2, 8)), linear.bias.expand(2, 4))
    assert rounded(torch.zeros(0, 8)).shape == (0, 4)


@torch.no_grad()
def test_embedding_and_output_head() -> None:
    embedding = TokenEmbedding(30, 16, scale=4.0)
    nn.init.normal_(embedding.weight)
    embedding.weight[3] = 0.0
    ids = torch.randint(30, (2, 5))
    assert relative(Int8Embedding(embedding)(ids), embedding(ids)) < 0.01
    assert torch.equal(Int8Embedding(embedding)(torch.tensor([[3]])), torch.zeros(1, 1, 16))
    head = OutputHead(embedding.weight, nn.Parameter(torch.randn(30)))
    x = torch.randn(3, 16)
    assert relative(Int8OutputHead(head)(x), head(x)) < 0.03


@pytest.mark.parametrize("name", SMALL_MODELS)
@torch.no_grad()
def test_whole_models_stay_near(name: str) -> None:
    model, rounded = small_model(name), small_model(name)
    rounded.load_state_dict(model.state_dict())
    to_int8(rounded)
    assert not any(type(part) in (nn.Linear, OutputHead, TokenEmbedding) for part in rounded.modules())
    batch = random_batch([5, 9, 3], [4, 6, 2])
    found, expected = (one.output_head(one(batch)) for one in (rounded, model))
    # Weights this large, and this few features, make much of every rounding.
    assert relative(found, expected) < 0.35
    stepped = rounded.start(batch.source, batch.source_lengths, 1, 8)
    ids = batch.target_input[:, 0]
    # Not equal: a last bit that differs may round to the next of the levels, and 14 features average little away.
    assert relative(rounded.step(ids, stepped)[0], found[:, 0]) < 0.4


@torch.no_grad()
def test_what_shares_a_matrix_shares_the_rounded_one(engine: str) -> None:
    model = small_model("transformer-post")
    assert model.target_embedding.weight is model.output_head.weight
    table = Int8Embedding(model.target_embedding)
    rounded = copy.deepcopy(model)
    to_int8(rounded)
    source, target, head = rounded.source_embedding, rounded.target_embedding, rounded.output_head
    assert source.rows is target.rows
    # PyTorch's kernels keep their matrix where nobody else can look anything up.
    assert (target.rows is head.product) == (engine == "compiled")
    ids = torch.arange(model.config.target_vocab_size).view(1, -1)
    assert torch.equal(target(ids), table(ids))


@torch.no_grad()
def test_a_matrix_is_rounded_piece_by_piece(monkeypatch: pytest.MonkeyPatch) -> None:
    linear = nn.Linear(64, 200)
    with monkeypatch.context() as patch:
        patch.setattr("trasluz.layers.int8._AT_ONCE", 64 * 40)
        in_pieces = Int8Linear(linear)
    assert torch.equal(in_pieces.weight, Int8Linear(linear).weight)


@torch.no_grad()
def test_nobody_holds_the_floats_after_each_matrix() -> None:
    model = small_model("transformer-post")
    matrices = [weakref.ref(parameter) for parameter in model.parameters() if parameter.dim() == 2]
    sizes = sorted((parameter.numel() for parameter in model.parameters() if parameter.dim() == 2), reverse=True)
    left: list[list[int]] = []
    to_int8(model, lambda: left.append([one.numel() for ref in matrices if (one := ref()) is not None]))
    assert [sorted(some, reverse=True) for some in left] == [sizes[done:] for done in range(1, len(sizes) + 1)]


@pytest.mark.parametrize(("flags", "levels"), [({"avx2"}, 63), ({"avx2", "avx_vnni"}, 127), ({"avx512_vnni"}, 127)])
def test_levels_that_do_not_overflow(
    monkeypatch: pytest.MonkeyPatch, engine: str, flags: set[str], levels: int
) -> None:
    if engine == "compiled":
        pytest.skip("the kernel asks the processor itself")
    monkeypatch.setattr("trasluz.layers.int8.cpu_flags", lambda: frozenset(flags))
    assert Int8Linear(nn.Linear(3, 2)).product.levels == levels


def test_other_processors_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trasluz.layers.int8._ENGINE", "none such")
    with pytest.raises(RequestError, match="int8 needs an x86 processor; use fp32"):
        to_int8(nn.Linear(2, 2))
