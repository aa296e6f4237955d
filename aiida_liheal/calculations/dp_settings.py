"""What a training can be told, with units and limits, and the DeePMD-kit input made of it."""

from __future__ import annotations

from typing import Any, Self

from pydantic import Field, model_validator

from aiida_liheal.structures.settings import Settings

__all__ = ('DpTrainSettings', 'architecture_of', 'training_input')


class DpTrainSettings(Settings):
    """Settings of one Deep Potential training (descriptor se_e2_a, TensorFlow backend)."""

    cutoff_A: float = Field(6.0, gt=1, le=12, description='Cut-off radius of the descriptor, in Å.')
    smooth_A: float = Field(1.5, ge=0, description='Radius from which the descriptor is switched off smoothly, in Å.')
    max_neighbours: int = Field(
        130, ge=1, le=2000, description='Most neighbours within the cut-off that the descriptor holds (DeePMD `sel`).'
    )
    embedding: tuple[int, ...] = Field((10, 20, 40), min_length=1, description='Widths of the embedding net.')
    axis: int = Field(8, ge=1, description='Width of the axis part of the embedding (`axis_neuron`).')
    fitting: tuple[int, ...] = Field((80, 80, 80), min_length=1, description='Widths of the fitting net.')
    activation: str = Field('tanh', pattern=r'^[a-z0-9_]+$', description='Activation function of both nets.')
    precision: str = Field('float32', pattern='^float(32|64)$', description='float32 or float64.')
    n_steps: int = Field(ge=1, le=100_000_000, description='Training steps.')
    decay_steps: int | None = Field(
        None,
        ge=1,
        description='Steps between two decays of the learning rate; a two-hundredth of n_steps if not given.',
    )
    learning_rate_start: float = Field(2e-3, gt=0, le=1, description='First learning rate.')
    learning_rate_stop: float = Field(1e-6, gt=0, le=1, description='Last learning rate.')
    energy_weight: tuple[float, float] = Field(
        (0.02, 1.0), description='Weight of energies in the loss, first and last.'
    )
    force_weight: tuple[float, float] = Field(
        (1000.0, 1.0), description='Weight of forces in the loss, first and last.'
    )
    virial_weight: tuple[float, float] = Field(
        (0.02, 0.5), description='Weight of virials, first and last; 0 for none.'
    )
    batch_size: int | str = Field(1, description='Frames a step, or `auto` or `auto:N` (at least N atoms a step).')
    domain_weights: dict[str, float] = Field(
        default_factory=dict,
        description='How often each domain is drawn, relative to the others; by its number of frames if not given.',
    )
    report_steps: int = Field(100, ge=1, description='Steps between two points of the learning curve.')
    table_from_A: float = Field(
        1.25, gt=0.1, lt=5, description='Smallest distance that the table of the compressed model resolves, in Å.'
    )
    seed: int = Field(ge=0, lt=2**31, description='Seed of the initial weights and of the order of the frames.')
    holdout_fraction: float = Field(0.1, ge=0, lt=1, description='Share of each shard that is kept out of training.')
    holdout_seed: int = Field(
        2022, ge=0, description='Seed of the choice of held-out frames; one for all members of a committee.'
    )

    @model_validator(mode='after')
    def _consistent(self) -> Self:
        if self.smooth_A >= self.cutoff_A:
            raise ValueError(f'smooth_A is {self.smooth_A} Å; allowed is less than cutoff_A, {self.cutoff_A} Å')
        if self.learning_rate_stop > self.learning_rate_start:
            raise ValueError(
                f'learning_rate_stop is {self.learning_rate_stop}; allowed is at most learning_rate_start, '
                f'{self.learning_rate_start}'
            )
        if self.axis > self.embedding[-1]:
            raise ValueError(f'axis is {self.axis}; allowed is at most the last embedding width, {self.embedding[-1]}')
        for name in ('energy_weight', 'force_weight', 'virial_weight'):
            if min(getattr(self, name)) < 0:
                raise ValueError(f'{name} is {getattr(self, name)}; allowed are numbers from 0 upwards')
        if isinstance(self.batch_size, str):
            head, _, number = self.batch_size.partition(':')
            if head != 'auto' or (number and not number.isdigit()):
                raise ValueError(f'batch_size is {self.batch_size!r}; allowed are a whole number, `auto` and `auto:N`')
        elif self.batch_size < 1:
            raise ValueError(f'batch_size is {self.batch_size}; allowed is 1 or more frames')
        for domain, weight in self.domain_weights.items():
            if weight < 0:
                raise ValueError(f'domain_weights: {domain} is {weight}; allowed are numbers from 0 upwards')
        return self


def training_input(
    settings: DpTrainSettings,
    elements: tuple[str, ...],
    training: dict[str, list[str]],
    holdout: list[str],
    n_frames: dict[str, int],
) -> dict[str, Any]:
    """The input of `dp --tf train`.

    Parameters
    ----------
    settings : DpTrainSettings
        The settings.
    elements : tuple of str
        The type map.
    training : dict of str to list of str
        Paths of the systems to train on, by domain.
    holdout : list of str
        Paths of the held-out systems, only looked at for the learning curve.
    n_frames : dict of str to int
        Frames in each training system, by path.

    Returns
    -------
    dict
        Ready to be written as JSON.

    Raises
    ------
    ValueError
        If a domain is given a weight but has no frames.
    """
    unknown = sorted(set(settings.domain_weights) - set(training))
    if unknown:
        raise ValueError(
            f'domain_weights names {", ".join(unknown)}; the frames have the domains {", ".join(sorted(training))}'
        )
    systems = [path for paths in training.values() for path in paths]
    data: dict[str, Any] = {'systems': systems, 'batch_size': settings.batch_size}
    if settings.domain_weights:
        total = {domain: sum(n_frames[p] for p in paths) for domain, paths in training.items()}
        weight = {domain: settings.domain_weights.get(domain, 1.0) for domain in training}
        norm = sum(weight.values())
        data['sys_probs'] = [
            weight[domain] / norm * n_frames[path] / total[domain]
            for domain, paths in training.items()
            for path in paths
        ]
    else:
        data['auto_prob'] = 'prob_sys_size'
    # a different stream for the weights of each net and the order of the frames, all from the one seed
    seeds = [(settings.seed * 3 + k) % (2**31 - 1) for k in (1, 2, 3)]
    training_section: dict[str, Any] = {
        'training_data': data,
        'numb_steps': settings.n_steps,
        'seed': seeds[2],
        'disp_file': 'lcurve.out',
        'disp_freq': min(settings.report_steps, settings.n_steps),
        'save_freq': max(min(settings.n_steps, 2000), 1),
        'save_ckpt': 'model.ckpt',
        'max_ckpt_keep': 1,
    }
    if holdout:
        training_section['validation_data'] = {'systems': holdout, 'batch_size': 1, 'numb_btch': 4}
    return {
        'model': {
            'type_map': list(elements),
            'descriptor': {
                'type': 'se_e2_a',
                'rcut': settings.cutoff_A,
                'rcut_smth': settings.smooth_A,
                'sel': [settings.max_neighbours] * len(elements),
                'neuron': list(settings.embedding),
                'axis_neuron': settings.axis,
                'resnet_dt': False,
                'type_one_side': True,
                'activation_function': settings.activation,
                'precision': settings.precision,
                'seed': seeds[0],
            },
            'fitting_net': {
                'neuron': list(settings.fitting),
                'resnet_dt': True,
                'activation_function': settings.activation,
                'precision': settings.precision,
                'seed': seeds[1],
            },
        },
        'learning_rate': {
            'type': 'exp',
            'start_lr': settings.learning_rate_start,
            'stop_lr': settings.learning_rate_stop,
            'decay_steps': settings.decay_steps or max(settings.n_steps // 200, 1),
        },
        'loss': {
            'type': 'ener',
            'start_pref_e': settings.energy_weight[0],
            'limit_pref_e': settings.energy_weight[1],
            'start_pref_f': settings.force_weight[0],
            'limit_pref_f': settings.force_weight[1],
            'start_pref_v': settings.virial_weight[0],
            'limit_pref_v': settings.virial_weight[1],
        },
        'training': training_section,
    }


def architecture_of(content: dict[str, Any]) -> dict[str, Any]:
    """The settings that fix the shape of the nets of a DeePMD-kit input: what must be equal to go on from a model.

    Raises ValueError if the model is built in a way that these settings do not have.
    """
    descriptor = content['model']['descriptor']
    fitting = content['model']['fitting_net']
    fixed = {
        'descriptor.type': (descriptor['type'], 'se_e2_a'),
        'descriptor.type_one_side': (descriptor.get('type_one_side', False), True),
        'descriptor.resnet_dt': (descriptor.get('resnet_dt', False), False),
        'fitting_net.resnet_dt': (fitting.get('resnet_dt', True), True),
    }
    for key, (given, needed) in fixed.items():
        if given != needed:
            raise ValueError(
                f'the model was trained with {key} = {given}; its weights can be taken over from {needed} only'
            )
    return {
        'cutoff_A': descriptor['rcut'],
        'smooth_A': descriptor['rcut_smth'],
        'max_neighbours': descriptor['sel'][0],
        'embedding': descriptor['neuron'],
        'axis': descriptor['axis_neuron'],
        'fitting': fitting['neuron'],
        'activation': descriptor['activation_function'],
        'precision': descriptor['precision'],
    }
