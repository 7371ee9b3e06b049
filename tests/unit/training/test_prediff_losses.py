"""Losses of PreDiff: closed forms, whose weights they touch, and what they refuse."""

from __future__ import annotations

import pytest
import torch
from torch.distributions import Normal
from torch.distributions import kl_divergence as of_laws

from xearth.errors import ConfigError
from xearth.models.prediff.config import AlignmentConfig, AutoencoderConfig
from xearth.models.prediff.process import Diffusion
from xearth.training.alignment_fit import AlignmentRecipe, fit_alignment_network
from xearth.training.autoencoder_losses import AutoencoderLoss, hinge, kl_divergence, logistic
from xearth.training.diffusion_losses import TimeWeights, alignment_errors
from xearth.training.patchgan import Discriminator

TINY = AutoencoderConfig(latent_channels=2, widths=(8, 8), layers=1, groups=4)


@pytest.fixture
def case():
    torch.manual_seed(0)
    network, judge = TINY.build(), Discriminator(1, units=4)
    return network, judge, torch.rand(2, 1, 32, 32, 1), torch.randn(2, 1, 16, 16, 2)


def test_divergence_is_that_of_normal_laws():
    torch.manual_seed(1)
    mean, log_variance = torch.randn(2, 2, 3, 4, 5, 6).unbind(0)
    law = Normal(mean, torch.exp(0.5 * log_variance))
    expected = of_laws(law, Normal(torch.zeros(()), torch.ones(()))).sum((2, 3, 4))
    torch.testing.assert_close(kl_divergence(mean, log_variance), expected)


def test_discriminators_losses_by_hand():
    real, decoded = torch.tensor([2.0, 0.5]), torch.tensor([-3.0, 1.0])
    assert hinge(real, decoded).item() == pytest.approx(0.5 * (0.25 + 1.0))
    chance = 0.5 * (-real.sigmoid().log().mean() - (1 - decoded.sigmoid()).log().mean())
    assert logistic(real, decoded).item() == pytest.approx(chance.item(), rel=1e-5)


def test_gradients_balance_at_the_last_convolution(case):
    network, judge, x, noise = case
    terms = AutoencoderLoss(adversarial_start=0).terms(network, judge, x, noise, step=0)
    last = network.decoder.conv_out.weight
    grads = [
        torch.autograd.grad(part, last, retain_graph=True)[0].norm()
        for part in (terms.absolute, terms.weight * terms.adversarial)
    ]
    # half of the error's, but for what keeps the ratio finite
    assert grads[1].item() == pytest.approx(0.5 * grads[0].item(), rel=0.1)
    total = terms.absolute + 1e-6 * terms.divergence + terms.weight * terms.adversarial
    torch.testing.assert_close(terms.total, total)


def test_each_loss_touches_one_network(case):
    network, judge, x, noise = case
    loss = AutoencoderLoss(adversarial_start=0)
    terms = loss.terms(network, judge, x, noise, step=0)
    terms.total.backward()
    assert all(p.grad is not None for p in network.parameters())
    assert all(p.grad is None for p in judge.parameters())
    network.zero_grad()
    loss.judge(judge, x, terms.decoded, step=0).backward()
    assert all(p.grad is not None for p in judge.parameters())
    assert all(p.grad is None for p in network.parameters())


def test_discriminator_waits(case):
    network, judge, x, noise = case
    loss = AutoencoderLoss(adversarial_start=10)
    terms = loss.terms(network, judge, x, noise, step=9)
    torch.testing.assert_close(terms.total, terms.absolute + 1e-6 * terms.divergence)
    assert loss.judge(judge, x, terms.decoded, step=9) == 0.0
    with torch.no_grad():  # validation needs no balance
        assert loss.terms(network, judge, x, noise, step=9).weight == 0.0


def test_learned_weights_are_best_at_the_logarithm_of_the_error():
    weights, t = TimeWeights(4), torch.tensor([1, 3])
    error = torch.tensor([0.3, 2.0])
    with torch.no_grad():
        weights.log_error[t] = error.log()
    weights(error, t).sum().backward()
    assert weights.log_error.grad.abs().max() < 1e-6
    assert weights(error, t).tolist() == pytest.approx((1 + error.log()).tolist())


def test_alignment_errors_are_of_the_noised_field():
    config = AlignmentConfig(base_units=8, input_shape=(3, 4, 6, 2), frames=2)
    network, process = config.build().eval(), Diffusion()
    z, noise, t = torch.randn(2, 3, 4, 6, 2), torch.randn(2, 3, 4, 6, 2), torch.tensor([5, 900])
    numbers = torch.randn(2, 2, 1)
    found = alignment_errors(network, process, z, numbers, t=t, noise=noise)
    read = network(process.noised(z, t, noise), t)
    torch.testing.assert_close(found, (read - numbers).square().mean((1, 2)))
    with pytest.raises(ConfigError, match="without broadcasting"):
        alignment_errors(network, process, z, numbers[:, :1], t=t, noise=noise)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: AutoencoderLoss(divergence_weight=-1.0), "divergence_weight must not"),
        (lambda: AutoencoderLoss(adversarial_start=-1), "adversarial_start must not"),
        (lambda: Discriminator(1, layers=0), "layers=0"),
        (lambda: TimeWeights(0), "at least 1 step"),
    ],
)
def test_impossible_choices_are_refused(make, message):
    with pytest.raises(ConfigError, match=message):
        make()


def test_alignment_is_trained_on_a_single_latent_channel():
    # torch crashes on gradients of a norm's weights alone unless the norm's data are put in order
    network = AlignmentConfig(base_units=8, input_shape=(2, 4, 6, 1), frames=2).build()
    before = network.down.first.norm_1.weight.detach().clone()
    fit_alignment_network(
        network,
        Diffusion(),
        lambda chosen, generator: torch.randn(len(chosen), 2, 4, 6, 1, generator=generator),
        torch.ones(8, 2, 1),
        AlignmentRecipe(steps=2, batch=4),
    )
    assert not torch.equal(network.down.first.norm_1.weight, before)
    assert not network.training
