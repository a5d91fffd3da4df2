"""The trainer: a generator of reports that knows batches and losses, but no text, no tokenizer and no kind of model.

    for update n:
        total, count = sum over pieces of objective(model, piece)            a sum of several means: objectives/loss.py
        gradient = d total / count          one division by the global count, then clipping: exact for unequal pieces
        learning rate = learning_rate * schedule(n)
    now and then: evaluate, save; at the end: the best weights, or an average of several

Everything drawn at random in update n follows from (seed, n): no generator state has to be saved, and a run that was
killed and resumed is equal to the bit to one that was not (CPU, fp32).
"""

import contextlib
import hashlib
import math
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol, TypeVar, runtime_checkable

import torch
from torch import Tensor, nn

from trasluz.checkpoints.weights import model_tensors
from trasluz.devices import multiplies_bf16
from trasluz.errors import TrainingError
from trasluz.layers.products import eight_bit_products
from trasluz.training.checkpoint import CheckpointFolder, Evaluation, RunState
from trasluz.training.further_losses import weighted_total, weights_of_further
from trasluz.training.optimizer import build_optimizer, optimizer_state, restore_optimizer
from trasluz.training.processes import ALONE, Processes, told_of_loss
from trasluz.training.recipe import EvaluationSection, TrainingSection
from trasluz.training.reports import Chosen, Ended, Evaluated, Notice, Report, Saved, Update
from trasluz.training.run_clock import RunClock
from trasluz.training.schedule import Schedule
from trasluz.training.sharing import share_model
from trasluz.training.signals import StopNow, StopRequest
from trasluz.training.slices import whole_tensor

# So many of the best checkpoints stand before the judge, beside the average.
_JUDGED = 3

LOWER_IS_BETTER = frozenset({"loss", "perplexity", "mean_squared_error"})


@runtime_checkable
class Loss(Protocol):
    """A sum over tokens and their number, kept apart."""

    @property
    def total(self) -> Tensor: ...
    @property
    def count(self) -> int: ...


@runtime_checkable
class Batch(Protocol):
    """What the trainer needs of a batch: to move it, and two numbers to show."""

    def to(self, device: torch.device) -> Any: ...
    @property
    def num_target_tokens(self) -> int: ...
    @property
    def padding_share(self) -> float: ...


BatchT = TypeVar("BatchT", bound=Batch)


@runtime_checkable
class BatchStream(Protocol):
    """Updates of every epoch; each is a list of batches whose gradients add up, equally many in every process.

    None among them: this process has nothing in that turn, and lets a stand-in that counts nothing pass through.
    """

    def num_updates(self, epoch: int) -> int: ...
    def updates(self, epoch: int, start: int) -> Iterator[Sequence[Batch | None]]: ...
    def stand_in(self) -> Batch: ...
    def places(self, epoch: int, index: int) -> list[str]: ...


class Trainer:
    """One run: `for report in trainer.run(): ...`; after a budget or patience, the model holds the chosen weights."""

    def __init__(
        self,
        model: nn.Module,
        objective: Callable[[Any, Any], Loss],
        stream: BatchStream,
        evaluate: Callable[[nn.Module], dict[str, float]],
        *,
        judge: Callable[[nn.Module], dict[str, float]] | None = None,
        training: TrainingSection,
        evaluation: EvaluationSection,
        checkpoints: CheckpointFolder,
        device: torch.device,
        precision: str,
        processes: Processes = ALONE,
    ) -> None:
        self.processes = processes
        self.shared = share_model(model, objective, training.parallel, processes, device)
        self.model = model
        self.objective = objective
        self.stream = stream
        self.evaluate = evaluate
        self.judge = judge
        self.training = training
        self.evaluation = evaluation
        self.checkpoints = checkpoints
        self.device = device
        self.eight_bits = precision == "int8"
        self.bf16 = precision == "bf16" or (self.eight_bits and multiplies_bf16(device))
        # Whole copies in bf16 of all weights would undo what is saved. Layers read each weight once, and lose nothing;
        # recurrent ones, which read theirs at every step, are neither sliced nor recomputed.
        self._keeps_copies = not (self.shared.sharded or training.recompute_activations)
        self.optimizer = build_optimizer(model, training, bf16=self.bf16)
        self.schedule = Schedule(
            training.schedule, training.warmup_steps, training.plateau_factor, training.plateau_patience
        )
        self.state = RunState(threads=torch.get_num_threads())
        self.stop = StopRequest()
        # What all processes agree on before each update: the time, which is the first one's, and whether to stop.
        self.clock = RunClock(processes.first)
        self._all_stop = False

    def resume(self) -> list[Notice]:
        """Go on from the newest checkpoint, where there is one; returns what is worth saying about it."""
        self.processes.first_does(self.checkpoints.sweep)
        # The first one's list: a shared folder may look different from each machine for a while.
        steps = self.processes.agree(self.checkpoints.steps())
        if not steps:
            return [Notice("There is no checkpoint yet: the run starts from the beginning.")]
        place = str(self.checkpoints.folder(steps[-1]))
        self.state = self.checkpoints.read_state(steps[-1])
        self.shared.restore(self.checkpoints.read_model(steps[-1]), place)
        moments = self.checkpoints.read_optimizer(steps[-1])
        restore_optimizer(self.optimizer, self.model, moments, place)
        self.schedule.restore(self.state.schedule)
        notices = [Notice(f"Resumed from {place}.")]
        threads = torch.get_num_threads()
        if self.device.type == "cpu" and self.state.threads != threads:
            notices.append(
                Notice(
                    f"Threads were {self.state.threads} before and are {threads} now: results may differ in "
                    "the last bits from a run that was never stopped."
                )
            )
            self.state.threads = threads
        return notices

    def run(self) -> Iterator[Report]:
        """Train until a budget or patience ends it, or until a signal asks to stop."""
        self.clock = RunClock(self.processes.first, self.state.seconds)
        with self.stop.listening():
            try:
                yield from self._loop()
            except StopNow:
                yield from self._leave()

    def _loop(self) -> Iterator[Report]:
        self.model.train()
        updates: Iterator[Sequence[Batch | None]] | None = None
        while True:
            self._agree()
            if self._evaluation_due():
                yield from self._evaluate_and_save()
                self._agree()
            reason = self._reason_to_end()
            if reason:
                if self.state.evaluated_at != self.state.step:
                    yield from self._evaluate_and_save()
                elif self.clock.saved_at < (self.training.max_time or 0.0) <= self.clock.seconds:
                    # The time ran out after the last save: a resume must find it used up.
                    yield self._save()
                yield from self._choose()
                yield self._ended(*reason)
                return
            if self._all_stop:
                raise StopNow
            if self.clock.since_save > self.training.save_every:
                yield self._save()
            if updates is None:
                updates = self.stream.updates(self.state.epoch, self.state.done_in_epoch)
            pieces = next(updates, None)
            if pieces is None:
                raise TrainingError("the batches ran out before the epoch's end")
            yield self._update(pieces)
            if self.state.done_in_epoch == self.stream.num_updates(self.state.epoch):
                self.state.epoch += 1
                self.state.done_in_epoch = 0
                updates = None

    def _agree(self) -> None:
        # A signal reaches some processes sooner than others, and clocks differ: all act on the same.
        asked, self.clock.seconds = self.processes.sum([float(self.stop.asked), self.clock.share()])
        # Not into `stop` itself: a signal that came meanwhile would be forgotten.
        self._all_stop = bool(asked)

    def _update(self, pieces: Sequence[Batch | None]) -> Update:
        state = self.state
        began = time.monotonic()
        state.step += 1
        torch.manual_seed(_derived_seed(self.training.seed, state.step, self.processes.rank))
        with eight_bit_products(self.eight_bits):
            total, sums = self._backward(pieces)
        gradients = [p.grad for p in self.model.parameters() if p.grad is not None]
        norm = whole_tensor(torch.nn.utils.get_total_norm(gradients))
        # One transfer for both numbers, since on a GPU each would wait for the device.
        local_total, norm_value = torch.stack((total.double(), norm.double())).tolist()
        mine = [local_total, *sums, self.clock.share()]
        loss_value, count, tokens, padding, self.clock.seconds = self.processes.sum(mine)
        loss_value, norm_value = loss_value / count, norm_value / count
        learning_rate = self.training.learning_rate * self.schedule.multiplier(state.step, self._progress() or 0.0)
        finite = math.isfinite(loss_value) and math.isfinite(norm_value)
        if finite:
            self._apply(gradients, count, norm_value, learning_rate)
        self.optimizer.zero_grad(set_to_none=True)
        state.skipped += not finite
        state.skipped_in_a_row = 0 if finite else state.skipped_in_a_row + 1
        places_index = state.done_in_epoch
        state.done_in_epoch += 1
        state.tokens += int(tokens)
        if state.skipped_in_a_row >= self.training.max_skipped:
            self._give_up(loss_value, norm_value, learning_rate, places_index)
        return Update(
            step=state.step,
            epoch=state.epoch,
            loss=loss_value,
            learning_rate=learning_rate,
            gradient_norm=norm_value,
            tokens=int(tokens),
            total_tokens=state.tokens,
            padding=padding / max(tokens, 1),
            seconds=time.monotonic() - began,
            total_seconds=self.clock.seconds,
            progress=self._progress(),
            skipped=not finite,
        )

    def _backward(self, pieces: Sequence[Batch | None]) -> tuple[Tensor, list[float]]:
        """Leave the sum of this process's gradients in the model; return its loss and what it counted.

        That is what the loss was a sum over, then tokens, then padding in tokens.
        """
        total, sums = torch.zeros((), device=self.device), [0.0, 0.0, 0.0]
        weights = weights_of_further(self.objective, pieces, self.processes)
        for number, piece in enumerate(pieces):
            with self.shared.accumulating(last=number == len(pieces) - 1) as loss_of:
                batch = self.stream.stand_in() if piece is None else piece
                with torch.autocast(
                    self.device.type, dtype=torch.bfloat16, enabled=self.bf16, cache_enabled=self._keeps_copies
                ):
                    loss = loss_of(batch.to(self.device))
                with_further = weighted_total(loss, weights)
                (with_further * 0.0 if piece is None else with_further).backward()
            if piece is not None:
                total += with_further.detach().float()
                own = (loss.count, piece.num_target_tokens, piece.padding_share * piece.num_target_tokens)
                sums = [before + now for before, now in zip(sums, own, strict=True)]
        return total, sums

    def _apply(self, gradients: list[Tensor], count: float, norm: float, learning_rate: float) -> None:
        """Let the optimizer take a step: gradients are sums over `count`, and `norm` is the length of their mean."""
        clip = self.training.clip_norm
        scale = min(1.0, clip / norm) if clip and norm > 0 else 1.0
        torch._foreach_mul_(gradients, scale / count)
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate * group.get("share", 1.0)
        # Muon exchanges matrices that are sliced.
        with told_of_loss():
            self.optimizer.step()

    def _give_up(self, loss: float, norm: float, learning_rate: float, index: int) -> None:
        places = self.stream.places(self.state.epoch, index)
        shown = ", ".join(places[:8]) + (f" and {len(places) - 8} more" if len(places) > 8 else "")
        what = f"the loss is {loss}" if not math.isfinite(loss) else f"the gradient's length is {norm}"
        raise TrainingError(
            f"{what} at update {self.state.step}, learning rate {learning_rate:.3g}, after "
            f"{self.state.skipped_in_a_row - 1} such updates right before it; its batch held {shown}. Lower "
            "training.learning_rate, raise training.warmup_steps, or look at these lines; the last checkpoint "
            "is untouched"
        )

    def _progress(self) -> float | None:
        # Share of the budget used: of the budgets, the one that will be reached first.
        training, state = self.training, self.state
        shares = []
        if training.max_steps:
            shares.append(state.step / training.max_steps)
        if training.max_tokens:
            shares.append(state.tokens / training.max_tokens)
        if training.max_time:
            shares.append(self.clock.seconds / training.max_time)
        if training.max_epochs:
            shares.append(
                (state.epoch + state.done_in_epoch / self.stream.num_updates(state.epoch)) / training.max_epochs
            )
        return min(max(shares), 1.0) if shares else None

    def _reason_to_end(self) -> tuple[str, str] | None:
        training, state = self.training, self.state
        if training.max_steps and state.step >= training.max_steps:
            return "budget", f"training.max_steps, {training.max_steps}, is reached"
        if training.max_epochs and state.epoch >= training.max_epochs:
            return "budget", f"training.max_epochs, {training.max_epochs}, is reached"
        if training.max_tokens and state.tokens >= training.max_tokens:
            return "budget", f"training.max_tokens, {training.max_tokens}, is reached"
        if training.max_time and self.clock.seconds >= training.max_time:
            return "budget", f"training.max_time, {training.max_time:.0f} seconds, is reached"
        patience = self.evaluation.patience
        if patience and len(state.evaluations) > patience:
            best = self._best_evaluation()
            if best < len(state.evaluations) - patience:
                return "patience", f"{patience} evaluations in a row brought no better {self.evaluation.metric}"
        return None

    def _evaluation_due(self) -> bool:
        state, every = self.state, self.evaluation.every
        if state.step == 0 or state.evaluated_at == state.step:
            return False
        if every.unit == "steps":
            return state.step % every.count == 0
        return state.done_in_epoch == 0 and state.epoch % every.count == 0

    def _score(self, metrics: dict[str, float]) -> float:
        value = metrics[self.evaluation.metric]
        if math.isnan(value):
            return -math.inf
        return -value if self.evaluation.metric in LOWER_IS_BETTER else value

    def _best_evaluation(self) -> int:
        scores = [self._score(evaluation.metrics) for evaluation in self.state.evaluations]
        return scores.index(max(scores))

    def _measure(self, look: Callable[[nn.Module], dict[str, float]]) -> dict[str, float]:
        # With others, a look is left at its end only: who left in the middle would be waited for.
        leave = self.stop.interruptible() if self.processes.size == 1 else contextlib.nullcontext()
        with self.shared.whole() as model:
            model.eval()
            try:
                with (
                    leave,
                    told_of_loss(),
                    torch.no_grad(),
                    torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=self.bf16),
                ):
                    return look(model)
            finally:
                model.train()

    def _evaluate_and_save(self) -> Iterator[Report]:
        began = time.monotonic()
        metrics = self._measure(self.evaluate)
        state = self.state
        state.evaluations.append(Evaluation(state.step, metrics))
        better = self._best_evaluation() == len(state.evaluations) - 1
        self.schedule.observe(better)
        # Reported before it is saved: what is on disk has then always been told.
        yield Evaluated(state.step, metrics, self.evaluation.metric, better, time.monotonic() - began)
        yield self._save()

    def _save(self) -> Saved:
        state = self.state
        state.schedule = self.schedule.state()
        # Agreed on, since whether the time has run out is decided by it.
        self._agree()
        state.seconds = self.clock.seconds
        moments = optimizer_state(self.optimizer, self.model)
        self.checkpoints.save(state, model_tensors(self.model), moments, self.processes, self.shared.sharded)
        self.processes.first_does(lambda: self.checkpoints.prune([*self._wanted(), state.step]))
        self.clock.saved()
        return Saved(state.step, str(self.checkpoints.folder(state.step)))

    def _ranked(self) -> list[int]:
        # Steps of all evaluations, best first; the earlier of two equal ones goes first.
        ranked = sorted(self.state.evaluations, key=lambda seen: (-self._score(seen.metrics), seen.step))
        return [evaluation.step for evaluation in ranked]

    def _wanted(self) -> list[int]:
        average = self.evaluation.average
        last = max(self.evaluation.keep, average.count if average and average.which == "last" else 0)
        newest = [evaluation.step for evaluation in self.state.evaluations[-last:]]
        averaged = average.count if average and average.which == "best" else 1
        return newest + self._ranked()[: max(averaged, _JUDGED if self.judge else 1)]

    def _choose(self) -> Iterator[Report]:
        """Put the best weights into the model: of the best checkpoints and the average, where one was asked for.

        Evaluations while training may be quick and coarse. Where there is a judge, who takes the time to look at all,
        the candidates stand before it; otherwise the best checkpoint is known, and only the average is measured.
        """
        # Fewer may have been kept than are wanted now, where a run was resumed with another average.
        kept = frozenset(self.processes.agree(self.checkpoints.steps()))
        everything = self._ranked()
        ranked = [step for step in everything if step in kept]
        candidates = [[step] for step in ranked[: _JUDGED if self.judge else 1]]
        average = self.evaluation.average
        if average:
            newest = [evaluation.step for evaluation in self.state.evaluations[-average.count :]]
            wanted = newest if average.which == "last" else everything[: average.count]
            steps = [step for step in wanted if step in kept]
            if len(steps) < len(wanted):
                missing = ", ".join(str(step) for step in wanted if step not in kept)
                yield Notice(f"evaluation.average is {average}; the checkpoints of updates {missing} were not kept.")
            if len(steps) > 1:
                candidates.append(steps)
        best = candidates[0]
        best_metrics = next(one.metrics for one in self.state.evaluations if [one.step] == best)
        if self.judge or len(candidates) > 1:
            measured = []
            for steps in candidates:
                if steps == best and not self.judge:
                    measured.append(best_metrics)
                    continue
                self._restore(steps)
                measured.append(self._measure(self.judge or self.evaluate))
            scores = [self._score(metrics) for metrics in measured]
            # Of equals the last: an average is the safer choice.
            winner = max(range(len(scores)), key=lambda index: (scores[index], index))
            best, best_metrics = candidates[winner], measured[winner]
        self._restore(best)
        yield Chosen(best, best_metrics)

    def _restore(self, steps: list[int]) -> None:
        if len(steps) > 1:
            self.shared.restore(self.checkpoints.average(steps), "the average")
        else:
            self.shared.restore(self.checkpoints.read_model(steps[0]), str(self.checkpoints.folder(steps[0])))

    def _leave(self) -> Iterator[Report]:
        if self.state.evaluated_at != self.state.step:
            yield self._save()
        yield self._ended("interrupted", "stopped as asked")

    def _ended(self, reason: str, text: str) -> Ended:
        self._agree()
        state = self.state
        return Ended(state.step, reason, text, self.clock.seconds, state.tokens, state.skipped)


def _derived_seed(seed: int, step: int, rank: int) -> int:
    # Hashed, so that (1, 2) and (2, 1) share nothing and neighbours are unrelated.
    told = f"{seed} {step} {rank}" if rank else f"{seed} {step}"
    return int.from_bytes(hashlib.blake2b(told.encode(), digest_size=8).digest(), "big") >> 1
