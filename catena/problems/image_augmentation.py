"""Altered images for training: moved, mirrored, brightened, erased in part."""

from __future__ import annotations

import math

import torch
from torch.nn import functional

from catena.settings import ImageAugmentationSettings


@torch.no_grad()
def altered(images: torch.Tensor, settings: ImageAugmentationSettings) -> torch.Tensor:
    """Images `(batch, channels, height, width)` of 0 to 1, each altered in its own way.

    Rotation, scale, shift and mirroring are one affine map, so that an image is interpolated once; what
    comes in from outside repeats the edge.
    """
    if settings.rotation or settings.scale or settings.shift or settings.flip:
        maps = _affine_maps(len(images), settings).to(images.device)
        grid = functional.affine_grid(maps, list(images.shape), align_corners=False)
        images = functional.grid_sample(images, grid, padding_mode="border", align_corners=False)
    if settings.contrast:
        factor = 1.0 + settings.contrast * _between(len(images), 1, 1, 1).to(images.device)
        mean = images.mean((1, 2, 3), keepdim=True)
        images = mean + (images - mean) * factor
    if settings.brightness:
        images = images + settings.brightness * _between(len(images), 1, 1, 1).to(images.device)
    if settings.contrast or settings.brightness:
        images = images.clamp(0.0, 1.0)
    if settings.erase:
        images = torch.where(_squares(images, settings.erase), 0.5, images)
    return images


def _between(*shape: int) -> torch.Tensor:
    """Random numbers, evenly of -1 to 1; on the CPU, whose random state a checkpoint always keeps."""
    return torch.rand(*shape) * 2.0 - 1.0


def _affine_maps(count: int, settings: ImageAugmentationSettings) -> torch.Tensor:
    """From places in the altered image to places in the given one `(count, 2, 3)`, in halves of its size."""
    angle = _between(count) * math.radians(settings.rotation)
    size = 1.0 + _between(count) * settings.scale
    mirrored = torch.where(torch.rand(count) < 0.5, -1.0, 1.0) if settings.flip else torch.ones(count)
    maps = torch.zeros(count, 2, 3)
    maps[:, 0, 0] = angle.cos() / size * mirrored
    maps[:, 0, 1] = -angle.sin() / size
    maps[:, 1, 0] = angle.sin() / size * mirrored
    maps[:, 1, 1] = angle.cos() / size
    maps[:, :, 2] = _between(count, 2) * (2.0 * settings.shift)
    return maps


def _squares(images: torch.Tensor, share: float) -> torch.Tensor:
    """A square somewhere in each image `(batch, 1, height, width)`; at the border it is cut off."""
    count, _, height, width = images.shape
    centre = torch.rand(count, 2, 1, 1)
    rows = torch.arange(height).view(1, height, 1)
    columns = torch.arange(width).view(1, 1, width)
    inside = ((rows - centre[:, 0] * height).abs() <= share * height / 2) & (
        (columns - centre[:, 1] * width).abs() <= share * width / 2
    )
    return inside.unsqueeze(1).to(images.device)
