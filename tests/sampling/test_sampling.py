"""Seeds, trust, selection, hold-out and convergence."""

import subprocess
import sys

import numpy as np
import pytest

from aiida_liheal.sampling.convergence import ConvergenceSettings, RoundOutcome, judge_round
from aiida_liheal.sampling.holdout import split_holdout
from aiida_liheal.sampling.seeds import derive_seed
from aiida_liheal.sampling.select import select_candidates
from aiida_liheal.sampling.trust import Trust, TrustCounts, TrustLevels, classify, count


class TestSeeds:
    def test_the_same_in_another_process(self):
        code = "from aiida_liheal.sampling.seeds import derive_seed; print(derive_seed(1, 'train', 'm0'))"
        run = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, check=True)
        assert int(run.stdout) == derive_seed(1, 'train', 'm0')

    def test_known_value(self):
        # a change of this number changes every run ever made by seed
        assert derive_seed(1, 'train', 'm0') == 289531853

    def test_names_matter(self):
        seeds = [derive_seed(1, *n) for n in [('a', 'b'), ('ab',), ('a',), (1,), ('1',), (), ('b', 'a')]]
        assert len({*seeds, derive_seed(2, 'a', 'b')}) == 8

    def test_range(self):
        seeds = [derive_seed(i, 'x') for i in range(2000)]
        assert min(seeds) >= 1
        assert max(seeds) <= 900_000_000
        assert len(set(seeds)) == 2000

    @pytest.mark.parametrize('seed', [-1, 1.5, '3', True])
    def test_refused(self, seed):
        with pytest.raises(ValueError, match='must be a whole number of 0 or greater'):
            derive_seed(seed)


class TestTrust:
    levels = TrustLevels(lower_eV_per_A=0.05, upper_eV_per_A=0.2)

    def test_bounds(self):
        trust = classify([0.0, 0.05, 0.0501, 0.1999, 0.2, 3.0, np.nan, np.inf], self.levels)
        assert trust.tolist() == [0, 0, 1, 1, 2, 2, 2, 2]
        assert count(trust, missing=2) == TrustCounts(accurate=2, candidate=2, failed=4, missing=2)

    def test_shares(self):
        counts = TrustCounts(accurate=5, candidate=3, failed=1, missing=1)
        assert [counts.share(t) for t in Trust] == pytest.approx([0.5, 0.3, 0.2])
        assert [TrustCounts(0, 0, 0).share(t) for t in Trust] == [0, 0, 1]
        assert count([]).total == 0

    def test_levels_must_rise(self):
        with pytest.raises(ValueError, match=r'lower_eV_per_A = 0.2 eV/Å: must be smaller than upper_eV_per_A = 0.2'):
            TrustLevels.read({'lower_eV_per_A': 0.2, 'upper_eV_per_A': 0.2})


class TestSelect:
    def test_shared_out_over_runs(self):
        rich, poor, none = np.full(100, Trust.CANDIDATE), np.array([0, 1, 2, 1]), np.zeros(5, int)
        chosen = select_candidates([rich, none, poor], 10, 3)
        assert chosen.n_candidates == 102
        assert chosen.n_chosen == 10
        assert chosen.n_dropped == 92
        assert np.bincount(chosen.runs, minlength=3).tolist() == [8, 0, 2]
        assert sorted(chosen.indices[chosen.runs == 2]) == [1, 3]

    def test_even_shares(self):
        chosen = select_candidates([np.ones(20)] * 4, 8, 1)
        assert np.bincount(chosen.runs).tolist() == [2, 2, 2, 2]
        pairs = set(zip(chosen.runs, chosen.indices, strict=True))
        assert len(pairs) == 8

    def test_by_seed(self):
        runs = [np.ones(50)] * 3
        first, again, other = (select_candidates(runs, 7, seed).indices.tolist() for seed in (1, 1, 2))
        assert first == again
        assert first != other

    def test_the_odd_ones_go_to_any_run(self):
        runs = {int(select_candidates([np.ones(5)] * 4, 1, seed).runs[0]) for seed in range(40)}
        assert runs == {0, 1, 2, 3}

    def test_few_or_none(self):
        assert select_candidates([np.array([1, 0, 1])], 10, 1).indices.tolist() == [0, 2]
        assert select_candidates([np.zeros(3)], 10, 1).n_chosen == 0
        assert select_candidates([], 10, 1).n_candidates == 0
        with pytest.raises(ValueError, match='n_max = -1'):
            select_candidates([], -1, 1)


class TestHoldout:
    @pytest.mark.parametrize(
        ('n', 'fraction', 'held'),
        [(100, 0.1, 10), (5, 0.1, 1), (2, 0.1, 1), (1, 0.5, 0), (0, 0.5, 0), (9, 0, 0), (3, 0.99, 2)],
    )
    def test_sizes(self, n, fraction, held):
        training, holdout = split_holdout(n, fraction, 1)
        assert len(holdout) == held
        assert sorted([*training, *holdout]) == list(range(n))

    def test_by_seed(self):
        first, again, other = (split_holdout(50, 0.2, seed)[1].tolist() for seed in (1, 1, 2))
        assert first == again
        assert first != other

    @pytest.mark.parametrize('fraction', [-0.1, 1.0, 2, float('nan')])
    def test_refused(self, fraction):
        with pytest.raises(ValueError, match='must be from 0 up to, not including, 1'):
            split_holdout(10, fraction, 1)


class TestConvergence:
    settings = ConvergenceSettings(converged_accurate_share=0.9, converged_failed_share=0.02, exploded_failed_share=0.5)

    @pytest.mark.parametrize(
        ('counts', 'n_done', 'outcome'),
        [
            (TrustCounts(100, 0, 0), 1, RoundOutcome.CONVERGED),
            (TrustCounts(90, 10, 0), 1, RoundOutcome.CONVERGED),
            (TrustCounts(90, 10, 0), 3, RoundOutcome.CONVERGED),
            (TrustCounts(89, 11, 0), 1, RoundOutcome.GO_ON),
            (TrustCounts(89, 11, 0), 3, RoundOutcome.LAST_ROUND),
            # many accurate frames do not make up for those that are lost
            (TrustCounts(95, 2, 3), 1, RoundOutcome.GO_ON),
            (TrustCounts(70, 0, 30), 1, RoundOutcome.NOTHING_TO_CHOOSE),
            (TrustCounts(70, 0, 30), 3, RoundOutcome.NOTHING_TO_CHOOSE),
            (TrustCounts(20, 20, 60), 1, RoundOutcome.EXPLODED),
            (TrustCounts(20, 20, 0, missing=60), 3, RoundOutcome.EXPLODED),
            (TrustCounts(0, 0, 0), 1, RoundOutcome.EXPLODED),
        ],
    )
    def test_rules(self, counts, n_done, outcome):
        assert judge_round(counts, n_done, 3, self.settings) is outcome

    def test_refused(self):
        with pytest.raises(ValueError, match='n_done = 0'):
            judge_round(TrustCounts(1, 0, 0), 0, 3, self.settings)
        with pytest.raises(ValueError, match='must not be greater than exploded_failed_share'):
            ConvergenceSettings.read({'converged_failed_share': 0.9, 'exploded_failed_share': 0.5})
