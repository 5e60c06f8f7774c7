"""Paint the studio's sample picture: a still life by sphere tracing (Hart 1996), no one's photograph.

    python studio-ui/sample/paint_sample.py studio-ui/public/sample.jpg

Needs numpy and Pillow; takes about two minutes. The picture is the same every time.
"""

from __future__ import annotations

import sys
from itertools import pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Array = NDArray[np.float32]
WIDTH, HEIGHT, OVER = 1200, 900, 2  # OVER: samples per pixel along each axis
FAR, STEPS, NEAR = 14.0, 110, 6e-4

SUN = np.array([-0.62, 0.66, 0.42], np.float32) / np.linalg.norm([-0.62, 0.66, 0.42]).astype(np.float32)
EYE = np.array([0.15, 1.55, 5.6], np.float32)
AIM = np.array([0.05, 0.62, 0.0], np.float32)

ROOM = np.array([0.10, 0.11, 0.11], np.float32)  # what mirrors see where the scene ends

# Materials: index -> (colour in linear light, gloss)
TABLE, WALL, BOWL, ORANGE, PEAR, BOTTLE, LEMON, APPLE, STALK, CLOTH = range(10)


def smooth_min(a: Array, b: Array, k: float) -> Array:
    """Union of two distances with a fillet of width ``k``."""
    h = np.clip(0.5 + 0.5 * (b - a) / k, 0, 1)
    return b * (1 - h) + a * h - k * h * (1 - h)


def sphere(p: Array, centre: tuple[float, float, float], radius: float, squash: float = 1.0) -> Array:
    """Distance to a sphere, flattened along y by ``squash``."""
    q = p - np.asarray(centre, np.float32)
    q = q * np.array([1, 1 / squash, 1], np.float32)
    return (np.sqrt((q * q).sum(-1)) - radius) * min(1.0, squash)


def capsule(p: Array, a: tuple[float, float, float], b: tuple[float, float, float], radius: float) -> Array:
    """Distance to a line segment with a radius."""
    start, along = np.asarray(a, np.float32), np.asarray(b, np.float32) - np.asarray(a, np.float32)
    q = p - start
    t = np.clip((q @ along) / (along @ along), 0, 1)
    r = q - t[..., None] * along
    return np.sqrt((r * r).sum(-1)) - radius


def lathe(p: Array, x: float, z: float, profile: list[tuple[float, float]], thick: float) -> Array:
    """Distance (a bound) to a vessel turned around the axis at ``x, z`` with the given (radius, height) corners."""
    radius = np.hypot(p[..., 0] - x, p[..., 2] - z)
    best = np.full(radius.shape, 1e3, np.float32)
    for (r0, y0), (r1, y1) in pairwise(profile):
        dr, dy = r1 - r0, y1 - y0
        t = np.clip(((radius - r0) * dr + (p[..., 1] - y0) * dy) / (dr * dr + dy * dy), 0, 1)
        best = np.minimum(best, np.hypot(radius - r0 - t * dr, p[..., 1] - y0 - t * dy))
    return best - thick


BOWL_PROFILE = [(0.0, 0.10), (0.30, 0.09)] + [
    (0.36 + 0.62 * np.sin(a), 0.62 - 0.52 * np.cos(a)) for a in np.linspace(0.15, 1.42, 9)
]
SHOULDER = [(0.26 + 0.14 * np.cos(a), 1.12 + 0.30 * np.sin(a)) for a in np.linspace(0, 1.45, 9)]
NECK = [(0.125 + 0.15 * (1 - np.sin(a)), 1.42 + 0.42 * (1 - np.cos(a))) for a in np.linspace(0.0, 1.5, 9)]
BOTTLE_PROFILE = [
    (0.0, 0.06),
    (0.36, 0.06),
    (0.40, 0.16),
    *SHOULDER,
    *NECK,
    (0.125, 2.02),
    (0.155, 2.04),
    (0.155, 2.12),
]


def scene(p: Array) -> tuple[Array, NDArray[np.int8]]:
    """Distance to the nearest surface and its material."""
    folds = 0.022 * np.sin(p[..., 0] * 2.1 + 1.7 * np.sin(p[..., 2] * 0.9)) * np.cos(p[..., 2] * 1.3 + 0.5)
    edge = 1.28 + 0.10 * np.sin(p[..., 0] * 1.7 + 0.6)
    cloth = np.maximum(np.abs(p[..., 1] - 0.03 - np.abs(folds)) - 0.012, np.abs(p[..., 2] - 0.1) - edge)
    cloth = np.maximum(cloth, np.abs(p[..., 0] + 0.2) - 2.35) * 0.8
    pear = smooth_min(sphere(p, (1.50, 0.40, 0.62), 0.37), sphere(p, (1.56, 0.86, 0.58), 0.19), 0.30)
    parts = [
        (p[..., 1] * 1.0, TABLE),
        (p[..., 2] + 2.1, WALL),
        (lathe(p, -0.28, 0.0, BOWL_PROFILE, 0.035), BOWL),
        (sphere(p, (-0.62, 0.72, 0.10), 0.34, 0.95), ORANGE),
        (sphere(p, (0.06, 0.72, 0.22), 0.33, 0.95), ORANGE),
        (sphere(p, (-0.24, 0.74, -0.34), 0.33, 0.95), APPLE),
        (sphere(p, (-0.27, 1.08, -0.02), 0.30, 0.95), APPLE),
        (pear, PEAR),
        (capsule(p, (1.57, 1.0, 0.58), (1.68, 1.22, 0.55), 0.022), STALK),
        (lathe(p, 1.02, -0.85, BOTTLE_PROFILE, 0.03), BOTTLE),
        (smooth_min(sphere(p, (0.72, 0.23, 1.02), 0.22), sphere(p, (0.92, 0.24, 0.98), 0.10), 0.2), LEMON),
        (sphere(p, (-1.72, 0.31, 0.55), 0.30, 0.93), APPLE),
        (capsule(p, (-1.72, 0.55, 0.55), (-1.66, 0.74, 0.57), 0.018), STALK),
        (capsule(p, (-0.27, 1.33, -0.02), (-0.20, 1.50, 0.0), 0.018), STALK),
        (cloth, CLOTH),
    ]
    distance = np.full(p.shape[:-1], 1e3, np.float32)
    material = np.zeros(p.shape[:-1], np.int8)
    for one, kind in parts:
        nearer = one < distance
        distance = np.where(nearer, one, distance)
        material = np.where(nearer, np.int8(kind), material)
    return distance.astype(np.float32), material


def march(origin: Array, direction: Array) -> tuple[Array, NDArray[np.int8]]:
    """Follow rays to the first surface: the distance along each ray, and the material there."""
    length = np.zeros(len(origin), np.float32)
    kind = np.zeros(len(origin), np.int8)
    alive = np.arange(len(origin))
    for _ in range(STEPS):
        distance, material = scene(origin[alive] + length[alive, None] * direction[alive])
        length[alive] += distance * 0.9
        kind[alive] = material
        alive = alive[(distance > NEAR) & (length[alive] < FAR)]
        if not len(alive):
            break
    return length, kind


def normals(p: Array, kind: NDArray[np.int8]) -> Array:
    """Gradient of the distance, from a tetrahedron of samples; wider on vessels, which are made of flat rings."""
    reach = np.where((kind == BOWL) | (kind == BOTTLE), 0.03, 1e-3)[:, None].astype(np.float32)
    total = np.zeros_like(p)
    for corner in ((1, -1, -1), (-1, -1, 1), (-1, 1, -1), (1, 1, 1)):
        offset = np.asarray(corner, np.float32)
        total += offset * scene(p + offset * reach)[0][:, None]
    return total / np.linalg.norm(total, axis=-1, keepdims=True)


def light(p: Array, normal: Array) -> Array:
    """Part of the sun that arrives, with a soft border (closest pass of the shadow ray)."""
    start = p + normal * 4e-3
    seen = np.ones(len(p), np.float32)
    length = np.full(len(p), 0.02, np.float32)
    alive = np.arange(len(p))
    for _ in range(48):
        distance, _ = scene(start[alive] + length[alive, None] * SUN)
        seen[alive] = np.minimum(seen[alive], 7.0 * distance / length[alive])
        length[alive] += np.clip(distance, 0.015, 0.25)
        alive = alive[(seen[alive] > 0.002) & (length[alive] < 6)]
        if not len(alive):
            break
    seen = np.clip(seen, 0, 1)
    return seen * seen * (3 - 2 * seen)


def occlusion(p: Array, normal: Array) -> Array:
    """Darkening in corners: five probes along the normal."""
    total = np.zeros(len(p), np.float32)
    for step in range(1, 6):
        reach = 0.07 * step
        total += (reach - scene(p + normal * reach)[0]) * 0.72**step
    return np.clip(1 - 1.5 * total, 0.12, 1)


def noise(p: Array, scale: float) -> Array:
    """Smooth value noise in ``[-1, 1]``."""
    q = p * scale
    cell = np.floor(q).astype(np.int64)
    part = (q - cell).astype(np.float32)
    part = part * part * (3 - 2 * part)
    total = np.zeros(len(p), np.float32)
    for corner in range(8):
        bits = np.array([corner & 1, corner >> 1 & 1, corner >> 2 & 1])
        key = ((cell + bits) * np.array([73856093, 19349663, 83492791])).sum(-1)
        key = (key ^ (key >> 13)) * 1274126177 & 0x7FFFFFFF
        weight = np.prod(np.where(bits, part, 1 - part), axis=-1)
        total += weight * (key % 2048 / 1023.5 - 1).astype(np.float32)
    return total


def surface(p: Array, kind: NDArray[np.int8]) -> tuple[Array, Array]:
    """Colour in linear light ``[N, 3]`` and gloss ``[N]``."""
    colour = np.zeros((len(p), 3), np.float32)
    gloss = np.zeros(len(p), np.float32)
    fine, coarse = noise(p, 9.0), noise(p, 2.3)

    def fill(which: int, base: tuple[float, float, float], shine: float, vary: Array) -> None:
        here = kind == which
        colour[here] = np.asarray(base, np.float32) * (1 + vary[here, None])
        gloss[here] = shine

    grain = noise(p * np.array([0.35, 1, 5.0], np.float32), 3.0)
    fill(TABLE, (0.20, 0.095, 0.045), 0.25, 0.35 * grain + 0.1 * fine)
    fill(WALL, (0.20, 0.235, 0.23), 0.0, 0.10 * coarse + 0.05 * fine)
    fill(BOWL, (0.035, 0.16, 0.22), 0.9, 0.15 * coarse)
    band = (kind == BOWL) & (np.abs(p[:, 1] - 0.50) < 0.05)
    colour[band] = np.array([0.62, 0.58, 0.48], np.float32)
    fill(ORANGE, (0.78, 0.185, 0.012), 0.35, 0.10 * coarse + 0.10 * noise(p, 40.0))
    fill(PEAR, (0.50, 0.47, 0.07), 0.30, 0.16 * coarse + 0.08 * fine)
    blush = np.clip(0.6 + 0.9 * (p[:, 0] - 1.55) + 0.4 * coarse, 0, 1)[:, None]
    colour[:] = np.where(
        (kind == PEAR)[:, None], colour * (1 - 0.6 * blush) + 0.6 * blush * np.array([0.55, 0.13, 0.05]), colour
    )
    fill(BOTTLE, (0.012, 0.055, 0.030), 1.0, 0.05 * coarse)
    fill(LEMON, (0.85, 0.60, 0.045), 0.40, 0.06 * noise(p, 34.0))
    fill(APPLE, (0.50, 0.030, 0.028), 0.60, 0.35 * noise(p * np.array([1, 0.25, 1], np.float32), 7.0))
    fill(STALK, (0.10, 0.06, 0.03), 0.1, fine * 0.2)
    stripe = 0.5 + 0.5 * np.tanh(14 * (np.cos(p[:, 0] * 5.2) - 0.80))
    fill(CLOTH, (0.66, 0.64, 0.58), 0.0, 0.04 * fine)
    weave = (kind == CLOTH)[:, None] * stripe[:, None]
    colour[:] = colour * (1 - weave) + weave * np.array([0.16, 0.22, 0.36], np.float32)
    return colour, gloss


def shade(origin: Array, direction: Array, bounce: bool = True) -> Array:
    """Linear light that comes along rays."""
    length, kind = march(origin, direction)
    p = origin + length[:, None] * direction
    normal = normals(p, kind)
    colour, gloss = surface(p, kind)
    sun = np.clip(normal @ SUN, 0, 1) * light(p, normal)
    window = 1.0
    wall = kind == WALL
    if wall.any():  # the window's light falls on the wall as a slanted patch
        slant = p[:, 0] + 0.55 * p[:, 1]
        frame = np.clip(6 * (1.25 - np.abs(slant - 0.2)), 0, 1) * np.clip(6 * np.abs(np.abs(slant - 0.2) - 0.06), 0, 1)
        window = np.where(wall, 0.25 + 0.95 * frame, 1.0)
    corner = occlusion(p, normal)
    sky = (0.5 + 0.5 * normal[:, 1]) * corner
    warm = np.clip(-normal[:, 1] * 0.5 + 0.5, 0, 1) * corner
    result = colour * (
        (sun * window)[:, None] * np.array([3.5, 2.95, 2.2], np.float32)
        + sky[:, None] * np.array([0.34, 0.44, 0.60], np.float32)
        + warm[:, None] * np.array([0.24, 0.15, 0.09], np.float32)
    )
    half = SUN - direction
    half /= np.linalg.norm(half, axis=-1, keepdims=True)
    spot = np.clip((normal * half).sum(-1), 0, 1)
    result += (gloss * light(p, normal) * (0.9 * spot**160 + 0.12 * spot**24))[:, None] * np.float32(1.6)
    shiny = gloss > 0.5 if bounce else np.zeros(len(p), bool)
    if shiny.any():
        facing = np.clip(1 + (direction[shiny] * normal[shiny]).sum(-1), 0, 1)
        mirror = direction[shiny] - 2 * (direction[shiny] * normal[shiny]).sum(-1)[:, None] * normal[shiny]
        seen = shade(p[shiny] + normal[shiny] * 4e-3, mirror, bounce=False)
        result[shiny] += (0.035 + 0.6 * facing**4)[:, None] * gloss[shiny, None] * seen
    result[length > FAR - 1] = ROOM
    return result.astype(np.float32)


def paint() -> NDArray[np.uint8]:
    """The picture ``[HEIGHT, WIDTH, 3]``."""
    ahead = (AIM - EYE) / np.linalg.norm(AIM - EYE)
    right = np.cross(ahead, [0, 1, 0])
    right /= np.linalg.norm(right)
    up = np.cross(right, ahead)
    rows = []
    for top in range(0, HEIGHT * OVER, 100):
        y, x = np.mgrid[top : min(top + 100, HEIGHT * OVER), 0 : WIDTH * OVER].astype(np.float32)
        u = (x + 0.5 - WIDTH * OVER / 2) / (HEIGHT * OVER)
        v = (HEIGHT * OVER / 2 - y - 0.5) / (HEIGHT * OVER)
        direction = (ahead * 1.62 + u.ravel()[:, None] * right + v.ravel()[:, None] * up).astype(np.float32)
        direction /= np.linalg.norm(direction, axis=-1, keepdims=True)
        rows.append(shade(np.broadcast_to(EYE, direction.shape).copy(), direction).reshape(*y.shape, 3))
    linear = np.concatenate(rows).reshape(HEIGHT, OVER, WIDTH, OVER, 3).mean((1, 3))
    linear *= 0.72
    film = linear * (2.51 * linear + 0.03) / (linear * (2.43 * linear + 0.59) + 0.14)  # ACES curve, Narkowicz 2015
    y, x = np.mgrid[-1 : 1 : HEIGHT * 1j, -1 : 1 : WIDTH * 1j]
    film *= (1 - 0.16 * (x**2 + y**2))[..., None]
    return np.asarray(np.clip(film, 0, 1) ** (1 / 2.2) * 255 + 0.5, np.uint8)


if __name__ == "__main__":
    Image.fromarray(paint()).save(Path(sys.argv[1]), quality=86, optimize=True, progressive=True)
