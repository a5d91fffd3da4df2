"""A Marian model for ONNX Runtime: exported by PyTorch, quantised by ONNX Runtime, searched by a plain loop.

Two graphs, as good as we can make them for it. The encoder gives the keys and values that every decoder layer will look
at, once a source. A decoder step takes the last token of every row with the past of its layers, and gives the best next
tokens with their log-probabilities: logits never leave the graph, and beams of a source share its memory. The past
goes from step to step without being copied by us; with beams, the graph puts its rows into their new order.

ONNX Runtime's optimizer of transformers goes over the graphs before they are quantised. What it finds (1.32): every
residual with the norm behind it, joined with a bias (SkipLayerNormalization; a session of the runtime alone joins none
of them in fp32, and only some in int8), and shapes worked out ahead. Its fused attention it does not find: it looks for
queries, keys and values made of one input beside each other, and here keys and values come in ready, or grow with the
past. Whether it takes the model for a BERT or for a BART makes no difference to what the runtime runs in the end.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

_OPSET = 17


def export(folder: Path, target: Path) -> None:
    """Write encoder, greedy step and beam step of a Marian folder, in fp32 and in int8."""
    import onnx
    import torch
    from onnxruntime.quantization import QuantType, quantize_dynamic
    from onnxruntime.transformers.optimizer import optimize_model
    from transformers import MarianMTModel

    from trasluz.devices import cpu_flags

    model = MarianMTModel.from_pretrained(folder, attn_implementation="eager").eval()
    target.mkdir(parents=True, exist_ok=True)
    layers = model.config.decoder_layers
    heads = model.config.decoder_attention_heads
    width = model.config.d_model // heads
    sources, length, beams, past = 2, 5, 3, 4
    mask = torch.zeros(sources, 1, 1, length)
    memory = [f"memory_{number}" for number in range(2 * layers)]
    before = [f"before_{number}" for number in range(2 * layers)]
    after = [f"after_{number}" for number in range(2 * layers)]
    with torch.inference_mode():
        _write(
            _encoder(model),
            (torch.ones(sources, length, dtype=torch.int64), mask),
            target / "encoder.onnx",
            ["source", "mask"],
            memory,
            {"source": {0: "sources", 1: "source"}, "mask": {0: "sources", 3: "source"}},
        )
        for name, num_beams in (("greedy", 1), ("beam", beams)):
            rows = sources * num_beams
            inputs = ["ids", "position", "end_score", "mask", *memory, *before]
            example = [
                torch.ones(rows, dtype=torch.int64),
                torch.tensor([past]),
                torch.tensor([0.0]),
                mask,
                *(torch.zeros(sources, heads, length, width) for _ in memory),
                *(torch.zeros(rows, heads, past, width) for _ in before),
            ]
            axes = {"ids": {0: "rows"}, "mask": {0: "sources", 3: "source"}}
            axes |= {one: {0: "sources", 2: "source"} for one in memory}
            axes |= {one: {0: "rows", 2: "past"} for one in before}
            if name == "beam":
                inputs.insert(3, "order")
                example.insert(3, torch.arange(rows))
                axes["order"] = {0: "rows"}
            _write(
                _step(model, name == "beam"),
                tuple(example),
                target / f"{name}.onnx",
                inputs,
                ["scores", "best", *after],
                axes,
            )
    # Without these instructions two products are added in 16 bits, and full weights overflow.
    has_room = bool({"avx512_vnni", "avx_vnni", "amx_int8"} & cpu_flags())
    for name in ("encoder", "greedy", "beam"):
        path = str(target / f"{name}.onnx")
        # Without the runtime's own passes: those are its session's, which knows the processor.
        optimized = optimize_model(
            path, model_type="bart", num_heads=heads, hidden_size=model.config.d_model, opt_level=0
        )
        optimized.save_model_to_file(path)
        quantize_dynamic(
            target / f"{name}.onnx",
            target / f"{name}-int8.onnx",
            per_channel=True,
            reduce_range=not has_room,
            weight_type=QuantType.QInt8,
            # Of what comes out of a joined norm the quantizer does not know the type.
            extra_options={"DefaultTensorType": onnx.TensorProto.FLOAT},
        )


def _write(
    module: Any, example: tuple[Any, ...], path: Path, inputs: list[str], outputs: list[str], axes: dict[str, Any]
) -> None:
    import torch

    torch.onnx.export(
        module,
        example,
        str(path),
        input_names=inputs,
        output_names=outputs,
        dynamic_axes=axes,
        opset_version=_OPSET,
        dynamo=False,
    )


def _split(attention: Any, x: Any, projection: Any, rows: Any) -> Any:
    """Return (rows, heads, positions, width) of a projection; `rows` puts beams beside each other as positions."""
    return projection(x).view(rows, -1, attention.num_heads, attention.head_dim).transpose(1, 2)


def _look(attention: Any, query: Any, key: Any, value: Any, mask: Any, shape: Any) -> Any:
    scores = (query * attention.scaling) @ key.transpose(-1, -2)
    if mask is not None:
        scores = scores + mask
    return attention.out_proj((scores.softmax(-1) @ value).transpose(1, 2).reshape(shape))


def _feed_forward(layer: Any, x: Any) -> Any:
    return layer.final_layer_norm(x + layer.fc2(layer.activation_fn(layer.fc1(x))))


def _encoder(model: Any) -> Any:
    import torch

    class Encoder(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, source: torch.Tensor, mask: torch.Tensor) -> list[torch.Tensor]:
            encoder = self.model.model.encoder
            x = encoder.embed_tokens(source) * encoder.embed_scale
            x = x + encoder.embed_positions.weight[: source.shape[1]]
            for layer in encoder.layers:
                own = layer.self_attn
                parts = [_split(own, x, one, x.shape[0]) for one in (own.q_proj, own.k_proj, own.v_proj)]
                x = layer.self_attn_layer_norm(x + _look(own, *parts, mask, x.shape))
                x = _feed_forward(layer, x)
            found = []
            for layer in self.model.model.decoder.layers:
                cross = layer.encoder_attn
                found += [_split(cross, x, one, x.shape[0]) for one in (cross.k_proj, cross.v_proj)]
            return found

    return Encoder()


def _step(model: Any, reorders: bool) -> Any:
    import torch

    class Step(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = model
            end = torch.zeros(model.config.vocab_size)
            end[model.config.eos_token_id] = 1.0
            self.register_buffer("end", end)

        def forward(self, ids: torch.Tensor, position: torch.Tensor, end_score: torch.Tensor, *rest: Any) -> Any:
            decoder = self.model.model.decoder
            order, rest = (rest[0], rest[1:]) if reorders else (None, rest)
            mask, parts = rest[0], rest[1:]
            memory, before = parts[: len(parts) // 2], parts[len(parts) // 2 :]
            x = decoder.embed_tokens(ids[:, None]) * decoder.embed_scale
            x = x + decoder.embed_positions.weight[position]
            after = []
            for number, layer in enumerate(decoder.layers):
                own, cross = layer.self_attn, layer.encoder_attn
                past = before[2 * number : 2 * number + 2]
                if order is not None:
                    past = [one.index_select(0, order) for one in past]
                rows = x.shape[0]
                new = [_split(own, x, one, rows) for one in (own.k_proj, own.v_proj)]
                key, value = (torch.cat(both, dim=2) for both in zip(past, new, strict=True))
                after += [key, value]
                query = _split(own, x, own.q_proj, rows)
                x = layer.self_attn_layer_norm(x + _look(own, query, key, value, None, x.shape))
                query = _split(cross, x, cross.q_proj, mask.shape[0])
                seen = _look(cross, query, memory[2 * number], memory[2 * number + 1], mask, x.shape)
                x = _feed_forward(layer, layer.encoder_attn_layer_norm(x + seen))
            logits = self.model.lm_head(x[:, 0]) + self.model.final_logits_bias + self.end * end_score
            if not reorders:
                return (*logits.max(-1), *after)
            return (*logits.log_softmax(-1).topk(2 * BEAM), *after)

    return Step()


# The graph of a beam step says how many extensions of a row it gives.
BEAM = 4


class OnnxMarian:
    """Encoder and step in ONNX Runtime."""

    def __init__(self, folder: Path, precision: str, threads: int, config: dict[str, Any]) -> None:
        """Take the folder that `export` wrote; `config` is the model's config.json."""
        import onnxruntime

        self.runtime = onnxruntime
        self.folder, self.suffix = folder, "-int8" if precision == "int8" else ""
        self.options = onnxruntime.SessionOptions()
        self.options.intra_op_num_threads = threads
        self.options.inter_op_num_threads = 1
        self.options.log_severity_level = 3
        self.config = config
        self.encoder = self._session("encoder")
        self._steps: tuple[str, Any] | None = None

    def _session(self, name: str) -> Any:
        path = self.folder / f"{name}{self.suffix}.onnx"
        return self.runtime.InferenceSession(str(path), self.options, providers=["CPUExecutionProvider"])

    def _step(self, name: str) -> Any:
        if self._steps is None or self._steps[0] != name:
            # One at a time: each holds all weights.
            self._steps = None
            self._steps = (name, self._session(name))
        return self._steps[1]

    def translate(self, sources: Sequence[Sequence[int]], beam: int, steps: int) -> list[list[int]]:
        """Return targets of exactly so many tokens, by greedy search or a beam of BEAM; sources are equally long."""
        value = self.runtime.OrtValue.ortvalue_from_numpy
        step = self._step("beam" if beam > 1 else "greedy")
        names = [output.name for output in step.get_outputs()]
        count = len(sources)
        rows = count * beam
        mask = value(np.zeros((count, 1, 1, len(sources[0])), np.float32))
        memories = self.encoder.run_with_ort_values(None, {"source": value(np.array(sources, np.int64)), "mask": mask})
        feeds = {f"memory_{number}": memory for number, memory in enumerate(memories)}
        feeds["mask"] = mask
        # The end is forbidden until the last token, which is then as free as any.
        feeds["end_score"] = value(np.array([-1e9], np.float32))
        heads = self.config["decoder_attention_heads"]
        empty = np.zeros((rows, heads, 0, self.config["d_model"] // heads), np.float32)
        past = [value(empty) for _ in memories]
        ids = np.full(rows, self.config["decoder_start_token_id"], np.int64)
        history = np.empty((rows, 0), np.int64)
        # All beams of a source begin alike, so only the first may be extended at first.
        running = np.full((count, beam), -np.inf, np.float32)
        running[:, 0] = 0.0
        order = np.arange(rows)
        for number in range(steps):
            feeds |= {f"before_{place}": one for place, one in enumerate(past)}
            feeds |= {"ids": value(ids), "position": value(np.array([number], np.int64))}
            if beam > 1:
                feeds["order"] = value(order)
            scores, best, *past = step.run_with_ort_values(names, feeds)
            if beam == 1:
                ids = best.numpy()
            else:
                ids, running, order = _extend(running, scores.numpy(), best.numpy())
                history = history[order]
            history = np.concatenate([history, ids[:, None]], axis=1)
        found: list[list[int]] = history[::beam].tolist()
        return found


def _extend(running: Any, scores: Any, best: Any) -> tuple[Any, Any, Any]:
    """Return tokens, totals and rows of the likeliest extensions of every source."""
    count, beam = running.shape
    totals = (running[:, :, None] + scores.reshape(count, beam, -1)).reshape(count, -1)
    tried = scores.shape[1]
    chosen = np.argsort(-totals, axis=1, kind="stable")[:, :beam]
    rows = np.arange(count)[:, None] * beam + chosen // tried
    ids = best.reshape(count, -1)[np.arange(count)[:, None], chosen]
    return ids.reshape(-1), np.take_along_axis(totals, chosen, axis=1), rows.reshape(-1)
