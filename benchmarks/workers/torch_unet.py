"""The U-Net of `benchmarks.networks` in PyTorch; answers requests in JSON lines."""

import importlib.metadata
import json
import os
import sys
import time
import warnings

import torch
from torch import nn

SHAPE, REGIONS, FILTERS, DEPTH, EXAMPLES = (8, 4, 128, 128), 3, 16, 4, 1000


class Shuffled(nn.Module):
    """A transposed convolution of stride 2 as a wide 1 x 1 one, rearranged.

    The same map with as many parameters. bayesian-torch 0.5 has a transposed Flipout
    convolution, whose forward pass fails on unequal numbers of channels.
    """

    def __init__(self, convolution, inputs, outputs):
        super().__init__()
        self.wide = convolution(inputs, 4 * outputs, 1)
        self.rearrange = nn.PixelShuffle(2)

    def forward(self, tensor):
        """Return the enlarged response, and the KL if the layer returns one."""
        found = self.wide(tensor)
        if isinstance(found, tuple):
            return self.rearrange(found[0]), found[1]
        return self.rearrange(found)


def makers(kind):
    """Return functions that make a convolution and a transposed one."""
    if kind == "deterministic":
        return nn.Conv2d, lambda inputs, outputs: nn.ConvTranspose2d(
            inputs, outputs, 2, stride=2
        )
    if kind == "bayesian_torch":
        from bayesian_torch.layers import Conv2dFlipout as Convolution
    else:
        from torch_uncertainty.layers.bayesian import BayesConv2d as Convolution
    return Convolution, lambda inputs, outputs: Shuffled(Convolution, inputs, outputs)


class UNet(nn.Module):
    """Four levels; sums the KL of layers that hand it on."""

    def __init__(self, kind):
        super().__init__()
        conv, up = makers(kind)
        widths = [FILTERS * 2**level for level in range(DEPTH)]
        self.down, self.up, self.merge = (
            nn.ModuleList(),
            nn.ModuleList(),
            nn.ModuleList(),
        )
        inputs = SHAPE[1]
        for width in widths:
            pair = [conv(inputs, width, 3, padding=1), conv(width, width, 3, padding=1)]
            self.down.append(nn.ModuleList(pair))
            inputs = width
        for width in reversed(widths[:-1]):
            self.up.append(up(2 * width, width))
            pair = [
                conv(2 * width, width, 3, padding=1),
                conv(width, width, 3, padding=1),
            ]
            self.merge.append(nn.ModuleList(pair))
        self.head = conv(FILTERS, REGIONS, 1)

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
        for up, pair in zip(self.up, self.merge):  # noqa: B905
            tensor = torch.cat([skips.pop(), self.run(up, tensor)], 1)
            for layer in pair:
                tensor = torch.relu(self.run(layer, tensor))
        return self.run(self.head, tensor)

    def penalty(self):
        """Return the KL, or the layers' own estimate of it."""
        if not isinstance(self.kl, float):
            return self.kl
        terms = [
            layer.lvposterior - layer.lprior
            for layer in self.modules()
            if hasattr(layer, "lvposterior")
        ]
        return sum(terms) if terms else 0.0


class Session:
    """Networks by kind and precision, made at the first request."""

    def __init__(self):
        generator = torch.Generator().manual_seed(0)
        self.images = torch.randn(SHAPE, generator=generator)
        self.images = self.images.to(memory_format=torch.channels_last)
        shape = (SHAPE[0], REGIONS, *SHAPE[2:])
        self.masks = (torch.rand(shape, generator=generator) < 0.1).float()
        self.made = {}

    def network(self, kind):
        """Return a network and its optimiser."""
        if kind not in self.made:
            network = UNet(kind).to(memory_format=torch.channels_last)
            optimizer = torch.optim.Adam(network.parameters(), 1e-3)
            self.made[kind] = network, optimizer
        return self.made[kind]

    def train_step(self, kind, precision):
        """Take one optimisation step."""
        network, optimizer = self.network(kind)
        network.train()
        optimizer.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bfloat16"):
            logits = network(self.images).float()
            loss = nn.functional.binary_cross_entropy_with_logits(logits, self.masks)
            loss = loss + network.penalty() / (EXAMPLES * self.masks[0].numel())
        loss.backward()
        optimizer.step()
        return loss.item()

    def forward(self, kind, precision):
        """Run one stochastic forward pass."""
        network, _ = self.network(kind)
        network.eval()
        with (
            torch.no_grad(),
            torch.autocast("cpu", torch.bfloat16, enabled=precision == "bfloat16"),
        ):
            return torch.sigmoid(network(self.images).float()).sum().item()

    def answer(self, request):
        """Return what was asked for."""
        if request["do"] == "versions":
            names = ("torch", "bayesian-torch", "torch-uncertainty")
            found = {}
            for name in names:
                try:
                    found[name] = importlib.metadata.version(name)
                except importlib.metadata.PackageNotFoundError:
                    continue
            return found
        if request["do"] == "parameters":
            network, _ = self.network(request["model"])
            return {"parameters": sum(p.numel() for p in network.parameters())}
        run = {"train_step": self.train_step, "forward": self.forward}[request["do"]]
        arguments = request["model"], request.get("precision", "float32")
        if arguments not in self.made:
            run(*arguments)
            self.made[arguments] = True
        repeats, start = int(request.get("repeats", 1)), time.perf_counter()
        for _ in range(repeats):
            run(*arguments)
        return {"seconds": (time.perf_counter() - start) / repeats}


def main():
    """Answer line by line until the input ends."""
    warnings.simplefilter("ignore")
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
