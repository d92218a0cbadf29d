"""The U-Net of `benchmarks.networks` in PyTorch; answers requests in JSON lines."""

import importlib.metadata
import importlib.util
import json
import os
import sys
import time
import warnings

import torch
from torch import nn

SHAPE, REGIONS, FILTERS, DEPTH, EXAMPLES = (8, 4, 128, 128), 3, 16, 4, 1000
#: Networks by the package that their layers need.
MODELS = {
    "deterministic": "torch",
    "bayesian_torch": "bayesian_torch",
    "torch_uncertainty": "torch_uncertainty",
}


class Shuffled(nn.Module):
    """A transposed convolution of stride 2 as a wide 1 x 1 one, rearranged.

    The same map of as many kernel weights, for packages without a transposed layer.
    """

    def __init__(self, convolution, inputs, outputs):
        super().__init__()
        self.wide = convolution(inputs, 4 * outputs, 1)
        self.rearrange = nn.PixelShuffle(2)

    def forward(self, tensor):
        """Return the enlarged response."""
        return self.rearrange(self.wide(tensor))


def makers(kind):
    """Return functions that make a convolution and a transposed one."""
    if kind == "deterministic":
        return nn.Conv2d, lambda *widths: nn.ConvTranspose2d(*widths, 2, stride=2)
    if kind == "bayesian_torch":
        from bayesian_torch import layers

        def transposed(inputs, outputs):
            layer = layers.ConvTranspose2dFlipout(inputs, outputs, 2, stride=2)
            # Release 0.5 lays this one out as if the convolution were a plain one, and
            # then fails on unequal numbers of channels.
            layer.prior_weight_sigma = torch.ones_like(layer.prior_weight_mu)
            return layer

        return layers.Conv2dFlipout, transposed
    _make_torchvision_importable()
    from torch_uncertainty.layers.bayesian import BayesConv2d

    return BayesConv2d, lambda *widths: Shuffled(BayesConv2d, *widths)


def _make_torchvision_importable():
    """Name the operators without which torchvision cannot be imported.

    Its own are compiled, and do not load beside a PyTorch of another build (the
    registry's torchvision expects one for GPUs). No layer here uses them.
    """
    try:
        import torchvision  # noqa: F401
    except RuntimeError:
        schema = "(Tensor boxes, Tensor scores, float iou_threshold) -> Tensor"
        for name in ("nms", "qnms"):
            torch.library.define(f"torchvision::{name}", schema)


class UNet(nn.Module):
    """Four levels; sums the KL of layers that hand it on."""

    def __init__(self, kind):
        super().__init__()
        convolution, transposed = makers(kind)

        def double(inputs, width):
            first = convolution(inputs, width, 3, padding=1)
            return nn.ModuleList([first, convolution(width, width, 3, padding=1)])

        self.down, self.up, self.merge = (nn.ModuleList() for _ in range(3))
        inputs, widths = SHAPE[1], [FILTERS * 2**level for level in range(DEPTH)]
        for width in widths:
            self.down.append(double(inputs, width))
            inputs = width
        for width in reversed(widths[:-1]):
            self.up.append(transposed(2 * width, width))
            self.merge.append(double(2 * width, width))
        self.head = convolution(FILTERS, REGIONS, 1)
        self.kl = 0.0

    def run(self, layer, tensor):
        """Apply a layer; keep its KL if it returns one."""
        found = layer(tensor)
        if isinstance(found, tuple):
            found, kl = found
            self.kl = self.kl + kl
        return found

    def forward(self, tensor):
        """Return the logits."""
        self.kl, skips = 0.0, []
        for level, pair in enumerate(self.down):
            for layer in pair:
                tensor = torch.relu(self.run(layer, tensor))
            if level < DEPTH - 1:
                skips.append(tensor)
                tensor = nn.functional.max_pool2d(tensor, 2)
        for up, pair in zip(self.up, self.merge, strict=True):
            tensor = torch.cat([skips.pop(), self.run(up, tensor)], 1)
            for layer in pair:
                tensor = torch.relu(self.run(layer, tensor))
        return self.run(self.head, tensor)

    def penalty(self):
        """Return the KL of the last forward pass, or the layers' estimate of it."""
        kl = self.kl
        for layer in self.modules():
            if hasattr(layer, "log_variational_posterior"):  # of torch-uncertainty
                kl = kl + layer.log_variational_posterior - layer.log_prior
        return kl


class Session:
    """Networks and their optimisers, made at the first request."""

    def __init__(self):
        generator = torch.Generator().manual_seed(0)
        self.images = torch.randn(SHAPE, generator=generator)
        self.images = self.images.to(memory_format=torch.channels_last)
        shape = (SHAPE[0], REGIONS, *SHAPE[2:])
        self.masks = (torch.rand(shape, generator=generator) < 0.1).float()
        self.masks = self.masks.to(memory_format=torch.channels_last)
        self.made, self.warm = {}, set()

    def network(self, kind):
        """Return a network and its optimiser."""
        if kind not in self.made:
            if kind not in MODELS:
                raise ValueError(f"`model` must be one of {list(MODELS)}, got {kind!r}")
            network = UNet(kind).to(memory_format=torch.channels_last)
            optimizer = torch.optim.Adam(network.parameters(), 1e-3)
            self.made[kind] = network, optimizer
        return self.made[kind]

    def train_step(self, kind, precision):
        """Take one optimisation step and return the loss."""
        network, optimizer = self.network(kind)
        network.train()
        optimizer.zero_grad()
        with autocast(precision):
            logits = network(self.images)
        data = nn.functional.binary_cross_entropy_with_logits(
            logits.float(), self.masks
        )
        loss = data + network.penalty() / (EXAMPLES * self.masks[0].numel())
        loss.backward()
        optimizer.step()
        return loss.item()

    def forward(self, kind, precision):
        """Run one forward pass, stochastic if the network is."""
        network, _ = self.network(kind)
        network.eval()
        with torch.inference_mode(), autocast(precision):
            return torch.sigmoid(network(self.images).float()).mean().item()

    def timed(self, do, kind, precision, repeats):
        """Return the mean seconds of `repeats`, and what the last one returned."""
        run = {"train_step": self.train_step, "forward": self.forward}[do]
        if (do, kind, precision) not in self.warm:
            run(kind, precision)
            self.warm.add((do, kind, precision))
        start = time.perf_counter()
        for _ in range(repeats):
            value = run(kind, precision)
        return {"seconds": (time.perf_counter() - start) / repeats, "value": value}

    def described(self):
        """Return versions of packages and parameters of networks."""
        versions = {"torch": torch.__version__}  # with the build, as in 2.13.0+cpu
        parameters = {}
        for kind, package in MODELS.items():
            if importlib.util.find_spec(package) is None:
                continue
            if kind != "deterministic":
                name = package.replace("_", "-")
                versions[name] = importlib.metadata.version(name)
            network, _ = self.network(kind)
            parameters[kind] = sum(each.numel() for each in network.parameters())
        return {"versions": versions, "parameters": parameters}

    def answer(self, request):
        """Return what was asked for."""
        if request["do"] == "versions":
            return self.described()
        precision, repeats = request.get("precision", "float32"), request["repeats"]
        return self.timed(request["do"], request["model"], precision, int(repeats))


def autocast(precision):
    """Return a context in which convolutions run in `precision`."""
    return torch.autocast("cpu", torch.bfloat16, enabled=precision == "bfloat16")


def main():
    """Answer line by line until the input ends."""
    warnings.simplefilter("ignore")
    # Whatever else is printed must not get between the answers.
    out, sys.stdout = sys.stdout, sys.stderr
    torch.set_num_threads(len(os.sched_getaffinity(0)))
    session = Session()
    for line in sys.stdin:
        try:
            answer = session.answer(json.loads(line))
        except Exception as error:
            answer = {"error": f"{type(error).__name__}: {error}"}
        print(json.dumps(answer), file=out, flush=True)


if __name__ == "__main__":
    main()
