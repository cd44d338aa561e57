"""The best outcome of each sample over several trajectories of one attack."""

from __future__ import annotations

import torch
from torch import Tensor

from art_ext.core.checks import check_count


def check_restarts(num_restarts: int, start: str = "uniform") -> None:
    """Raise ValueError unless num_restarts is an integer >= 1, and 1 where all trajectories
    would be the same.
    """
    check_count("num_restarts", num_restarts)
    if num_restarts > 1 and start != "uniform":
        raise ValueError(
            f"num_restarts must be 1 with start={start!r}, from where all trajectories are the"
            f" same, got {num_restarts}; start='uniform' draws a point for each restart"
        )


class Outcomes:
    """The best outcome of each of N samples: a success before a failure, then the higher loss.

    Attributes:
        ends: (T, N, D) the end of each of T trajectories; None if they are not kept. A trajectory
            that was not made, because the sample was done, shows the end of the one before, and the
            input if there was none.
    """

    def __init__(self, samples: Tensor, count: int, keep: bool) -> None:
        self._rank = torch.full((len(samples),), -1, dtype=torch.int8, device=samples.device)
        self._losses = samples.new_full((len(samples),), torch.nan)  # NaN is below every loss
        self.ends = samples.expand(count, *samples.shape).clone() if keep else None

    def forget_losses(self) -> None:
        """Let the next trajectory win over earlier ones of its rank, because it ascends another
        loss.
        """
        self._losses = torch.full_like(self._losses, torch.nan)

    def enter(
        self,
        number: int,
        index: Tensor,
        rows: Tensor,
        success: Tensor,
        verified: Tensor,
        losses: Tensor,
    ) -> Tensor:
        """Compare the outcomes of a trajectory with the best so far.

        Args:
            number: of the trajectory, from 0.
            index: (r,) the samples whose trajectory has ended.
            rows: (r, D) where it ended: the last iterate that succeeded, or the last one.
            success: (r,) bool.
            verified: (r,) bool, whether the rows lie in ball and box to the last bit; rounding may
                lead out of them.
            losses: (r,) at rows.

        Returns:
            (r,) bool, whose outcome is now the best.
        """
        if self.ends is not None:
            self.ends[number:, index] = rows
        rank = success.to(torch.int8) + (success & verified).to(torch.int8)
        losses = losses.to(self._losses.dtype).nan_to_num(nan=-torch.inf)
        best = self._rank[index]
        better = (rank > best) | ((rank == best) & ~(losses <= self._losses[index]))
        self._rank[index] = torch.where(better, rank, best)
        self._losses[index] = torch.where(better, losses, self._losses[index])
        return better
