"""Other answers to apply_rope_interleaved."""

import torch

from llama_lessons import rope
from tests.grading.answers import right, wrong
from tests.grading.answers.apply_rope import rotation


@right
def by_complex_numbers(x, cos, sin):
    pairs = torch.view_as_complex(x.float().unflatten(-1, (-1, 2)).contiguous())
    return torch.view_as_real(pairs * torch.complex(cos, sin)).flatten(-2).to(x.dtype)


@right
def with_repeated_tables(x, cos, sin):
    a, b = x[..., 0::2], x[..., 1::2]
    cos, sin = cos.repeat_interleave(2, dim=-1), sin.repeat_interleave(2, dim=-1)
    return (x.float() * cos + torch.stack((-b, a), dim=-1).flatten(-2) * sin).to(x.dtype)


@right
def into_a_copy(x, cos, sin):
    turned = x.float().clone()
    turned[..., 0::2] = x[..., 0::2].float() * cos - x[..., 1::2].float() * sin
    turned[..., 1::2] = x[..., 1::2].float() * cos + x[..., 0::2].float() * sin
    return turned.type_as(x)


@right
def by_einsum(x, cos, sin):
    return torch.einsum("sij,bhsj->bhsi", rotation(cos, sin, "interleaved"), x.float()).to(x.dtype)


@right
def by_polar(x, cos, sin):
    turned = torch.view_as_complex(x.float().reshape(*x.shape[:-1], -1, 2).contiguous())
    return torch.view_as_real(turned * torch.polar(torch.ones_like(cos), torch.atan2(sin, cos))).flatten(3).type_as(x)


@right
def by_reordering(x, cos, sin):
    n = cos.shape[-1]
    to_half = torch.arange(2 * n).reshape(n, 2).T.reshape(-1)
    return rope.apply_rope(x[..., to_half], cos, sin)[..., to_half.argsort()]


@right
def last_axis_split_by_view(x, cos, sin):
    a, b = x.float().view(*x.shape[:-1], -1, 2).unbind(-1)
    return torch.stack((a * cos - b * sin, b * cos + a * sin), dim=-1).flatten(-2).to(x.dtype)


@wrong(called=None)
def two_dimensions_too_many(x, cos, sin):
    return rope.apply_rope(x, cos, sin, "interleaved").unflatten(-1, (-1, 2))


@wrong(called="pairs are halves")
def the_last_exercise_again(x, cos, sin):
    a, b = x.float().chunk(2, dim=-1)
    return torch.cat((a * cos - b * sin, b * cos + a * sin), dim=-1).to(x.dtype)


@wrong(called="read as neighbours, written as halves")
def joined_with_cat(x, cos, sin):
    a, b = x[..., ::2], x[..., 1::2]
    return torch.cat([a * cos - b * sin, b * cos + a * sin], -1).to(x.dtype)


@wrong(called="read as halves, written as neighbours")
def complex_of_halves(x, cos, sin):
    a, b = x.float().chunk(2, dim=-1)
    return torch.view_as_real(torch.complex(a, b) * torch.complex(cos, sin)).flatten(-2).to(x.dtype)


@wrong(called="tables of neighbours with turns of halves")
def rotate_half_with_spread_tables(x, cos, sin):
    n = x.shape[-1] // 2
    rotated = torch.cat((-x[..., n:], x[..., :n]), dim=-1)
    return (x * cos.repeat_interleave(2, -1) + rotated * sin.repeat_interleave(2, -1)).to(x.dtype)


@wrong(called="tables of halves with turns of neighbours")
def spread_x_with_cat_tables(x, cos, sin):
    rotated = torch.stack((-x[..., 1::2], x[..., 0::2]), dim=-1).reshape(x.shape)
    return (x * cos.tile(1, 2) + rotated * sin.tile(1, 2)).to(x.dtype)


@wrong(called="turns backwards")
def pairs_the_wrong_way_round(x, cos, sin):
    b, a = x[..., 0::2].float(), x[..., 1::2].float()
    return torch.stack((b * cos + a * sin, a * cos - b * sin), dim=-1).flatten(-2).to(x.dtype)


@wrong()
def no_bfloat16_complex_number(x, cos, sin):
    pairs = torch.view_as_complex(x.unflatten(-1, (-1, 2)).contiguous())
    return torch.view_as_real(pairs * torch.complex(cos, sin)).flatten(-2).to(x.dtype)


@wrong(called="first channel overwritten too early")
def in_place_one_after_the_other(x, cos, sin):
    y = x.float().clone()
    y[..., 0::2] = y[..., 0::2] * cos - y[..., 1::2] * sin
    y[..., 1::2] = y[..., 1::2] * cos + y[..., 0::2] * sin
    return y.to(x.dtype)


@wrong(called="not turned at all")
def nothing_done(x, cos, sin):
    return x


@wrong(called="scaled, not turned")
def multiplied_alone(x, cos, sin):
    y = x.float().clone()
    y[..., 0::2] *= cos
    y[..., 1::2] *= sin
    return y.to(x.dtype)


@wrong(called="no gradient to x")
def under_no_grad(x, cos, sin):
    with torch.no_grad():
        return rope.apply_rope(x, cos, sin, "interleaved")


@wrong(called="float16 kept")
def float32_for_bfloat16_alone(x, cos, sin):
    y = x.float() if x.dtype is torch.bfloat16 else x
    cos, sin = cos.to(y.dtype), sin.to(y.dtype)
    a, b = y[..., ::2], y[..., 1::2]
    return torch.stack((a * cos - b * sin, b * cos + a * sin), -1).flatten(-2).to(x.dtype)
