"""Other answers to apply_rope."""

import torch

from llama_lessons import rope
from tests.grading.answers import right, wrong

right(rope.apply_rope)


def rotation(cos, sin, layout):
    """One matrix for each position, (seq_len, head_dim, head_dim)."""
    n = cos.shape[-1]
    i = torch.arange(n, device=cos.device)
    a, b = (i, i + n) if layout == "half" else (2 * i, 2 * i + 1)
    matrix = torch.zeros(len(cos), 2 * n, 2 * n, device=cos.device)
    matrix[:, a, a], matrix[:, b, b], matrix[:, a, b], matrix[:, b, a] = cos, cos, -sin, sin
    return matrix


@right
def by_complex_numbers(x, cos, sin):
    a, b = x.float().chunk(2, dim=-1)
    turned = torch.complex(a, b) * torch.complex(cos, sin)
    return torch.cat((turned.real, turned.imag), dim=-1).to(x.dtype)


@right
def into_an_empty_tensor(x, cos, sin):
    result = torch.empty(x.shape, device=x.device)
    middle = x.shape[-1] // 2
    result[..., :middle] = x[..., :middle].float() * cos - x[..., middle:].float() * sin
    result[..., middle:] = x[..., middle:].float() * cos + x[..., :middle].float() * sin
    return result.to(x.dtype)


@right
def by_einsum(x, cos, sin):
    return torch.einsum("sij,bhsj->bhsi", rotation(cos, sin, "half"), x.float()).to(x.dtype)


@right
def by_vmap(x, cos, sin):
    def one(v, c, s):
        a, b = v.chunk(2)
        return torch.cat((a * c - b * s, b * c + a * s))

    over_tokens = torch.func.vmap(one)
    over_heads = torch.func.vmap(over_tokens, in_dims=(0, None, None))
    return torch.func.vmap(over_heads, in_dims=(0, None, None))(x.float(), cos, sin).to(x.dtype)


@right
def in_float64(x, cos, sin):
    a, b = x.double().chunk(2, dim=-1)
    return torch.cat((a * cos - b * sin, b * cos + a * sin), dim=-1).to(x.dtype)


@right
def in_place_on_a_copy(x, cos, sin):
    y = x.float().clone() if x.dtype != torch.float32 else x.clone()
    n = cos.shape[-1]
    a = y[..., :n].clone()
    y[..., :n].mul_(cos).sub_(y[..., n:] * sin)
    y[..., n:].mul_(cos).add_(a * sin)
    return y.type(x.dtype)


@right
def as_hugging_face_does(x, cos, sin):
    cos, sin = torch.cat((cos, cos), -1)[None, None], torch.cat((sin, sin), -1)[None, None]
    n = x.shape[-1] // 2
    rotated = torch.cat((-x[..., n:], x[..., :n]), dim=-1)
    return (x * cos + rotated * sin).to(x.dtype)


@right
def left_transposed(x, cos, sin):
    a, b = x.float().transpose(-1, -2).chunk(2, dim=-2)
    cos, sin = cos.T, sin.T
    return torch.cat((a * cos - b * sin, b * cos + a * sin), dim=-2).transpose(-1, -2).to(x.dtype)


class Rotation(torch.autograd.Function):
    """A rotation with a backward pass written by hand."""

    @staticmethod
    def forward(ctx, x, cos, sin):
        ctx.save_for_backward(cos, sin)
        return rope.apply_rope(x, cos, sin)

    @staticmethod
    def backward(ctx, gradient):
        cos, sin = ctx.saved_tensors
        return rope.apply_rope(gradient, cos, -sin), None, None


@right
def with_its_own_backward(x, cos, sin):
    return Rotation.apply(x, cos, sin)


@wrong(called=None)
def token_by_token(x, cos, sin):
    n = cos.shape[-1]
    tokens = []
    for i in range(x.shape[-2]):
        v = x[..., i, :].float()
        tokens.append(
            torch.cat((v[..., :n] * cos[i] - v[..., n:] * sin[i], v[..., n:] * cos[i] + v[..., :n] * sin[i]), -1)
        )
    return torch.stack(tokens, dim=-2).to(x.dtype)


@wrong(called="only the first row of the batch")
def first_row_for_all(x, cos, sin):
    return rope.apply_rope(x[:1].expand_as(x), cos, sin)


@wrong(called="the first head for all")
def first_head_for_all(x, cos, sin):
    return rope.apply_rope(x[:, :1].expand_as(x), cos, sin)


@wrong(called="positions from 0")
def tables_made_anew_from_position_0(x, cos, sin):
    tables = rope.rope_tables(torch.arange(x.shape[2], device=x.device), rope.rope_frequencies(x.shape[3]))
    return rope.apply_rope(x, *tables)


@wrong()
def changes_the_tables(x, cos, sin):
    sin *= -1
    return rope.apply_rope(x, cos, -sin)


@wrong(called="every token as the last")
def every_token_as_the_last(x, cos, sin):
    return rope.apply_rope(x, cos[-1:].expand_as(cos), sin[-1:].expand_as(sin))


@wrong(never=("no gradient to x",))
def loses_its_gradient_in_part(x, cos, sin):
    a, b = x.chunk(2, dim=-1)
    return rope.apply_rope(torch.cat((a, b.detach()), dim=-1), cos, sin)


@wrong(called="not turned at all")
def only_the_dtype(x, cos, sin):
    a, b = x.float().chunk(2, -1)
    return torch.cat([a, b], -1).to(x.dtype)


@wrong(called="tables of neighbours with turns of halves")
def rotate_half_with_repeated_columns(x, cos, sin):
    cos, sin = torch.stack((cos, cos), -1).flatten(-2), torch.stack((sin, sin), -1).flatten(-2)
    n = x.shape[-1] // 2
    return (x.float() * cos + torch.cat((-x[..., n:], x[..., :n]), -1).float() * sin).type_as(x)


@wrong(called="turns backwards")
def rotate_half_with_the_other_sign(x, cos, sin):
    n = x.shape[-1] // 2
    rotated = torch.cat((x[..., n:], -x[..., :n]), dim=-1)
    return (x * cos.repeat(1, 2) + rotated * sin.repeat(1, 2)).to(x.dtype)


@wrong(called="turns backwards")
def by_the_conjugate(x, cos, sin):
    a, b = x.float().chunk(2, dim=-1)
    turned = torch.complex(a, b) * torch.complex(cos, sin).conj()
    return torch.cat((turned.real, turned.imag), dim=-1).to(x.dtype)


@wrong(called="pairs are neighbours")
def as_meta_does(x, cos, sin):
    pairs = torch.view_as_complex(x.float().reshape(*x.shape[:-1], -1, 2))
    return torch.view_as_real(pairs * torch.complex(cos, sin)).flatten(3).type_as(x)


@wrong(called="each channel with itself")
def halves_negated_and_not_exchanged(x, cos, sin):
    n = x.shape[-1] // 2
    rotated = torch.cat((-x[..., :n], x[..., n:]), dim=-1)
    return (x * cos.repeat(1, 2) + rotated * sin.repeat(1, 2)).to(x.dtype)


@wrong(called="first channel overwritten too early")
def in_place_one_after_the_other(x, cos, sin):
    y = x.float().clone()
    n = x.shape[-1] // 2
    y[..., :n] = y[..., :n] * cos - y[..., n:] * sin
    y[..., n:] = y[..., n:] * cos + y[..., :n] * sin
    return y.to(x.dtype)


@wrong(called="heads taken for positions")
def tables_with_an_axis_too_many(x, cos, sin):
    cos, sin = cos[None, :, None], sin[None, :, None]
    a, b = x.float().chunk(2, dim=-1)
    return torch.cat((a * cos - b * sin, a * sin + b * cos), dim=-1).to(x.dtype)


@wrong(called="computed in half precision")
def tables_cast_to_the_dtype_of_x(x, cos, sin):
    cos, sin = torch.cat((cos, cos), -1).to(x.dtype), torch.cat((sin, sin), -1).to(x.dtype)
    a, b = x.chunk(2, dim=-1)
    return x * cos + torch.cat((-b, a), dim=-1) * sin


@wrong(called="computed in half precision")
def products_cast_one_by_one(x, cos, sin):
    a, b = x.chunk(2, dim=-1)
    ac, bs, bc, as_ = (a * cos).to(x.dtype), (b * sin).to(x.dtype), (b * cos).to(x.dtype), (a * sin).to(x.dtype)
    return torch.cat((ac - bs, bc + as_), dim=-1)


@wrong(called="float32 goes out")
def never_cast_back(x, cos, sin):
    a, b = x.float().chunk(2, dim=-1)
    return torch.cat((a * cos - b * sin, b * cos + a * sin), dim=-1)


@wrong()
def only_a_quarter_of_the_channels(x, cos, sin):
    n = x.shape[-1] // 2
    turned = rope.apply_rope(x, cos, sin)
    return torch.cat((turned[..., : n // 2], x[..., n // 2 :]), dim=-1)


@wrong(called="x overwritten")
def written_back_into_x(x, cos, sin):
    a, b = x.float().chunk(2, dim=-1)
    n = x.shape[-1] // 2
    new_a, new_b = a * cos - b * sin, b * cos + a * sin
    x[..., :n], x[..., n:] = new_a, new_b
    return x


@wrong(never=("turns backwards", "the minus is missing"))
def without_a_second_half(x, cos, sin):
    a, b = x.float().chunk(2, dim=-1)
    return torch.cat((a * cos - b * sin, a * cos - b * sin), dim=-1).to(x.dtype)


@wrong(called="the second line not exchanged")
def sine_and_cosine_in_the_same_place(x, cos, sin):
    a, b = x.float().chunk(2, dim=-1)
    return torch.cat((a * cos - b * sin, a * cos + b * sin), dim=-1).to(x.dtype)


@wrong(called="a cast taken for a copy")
def written_into_what_float_gave(x, cos, sin):
    y = x.float()
    a, b = y.chunk(2, dim=-1)
    y.copy_(torch.cat((a * cos - b * sin, b * cos + a * sin), dim=-1))
    return y.to(x.dtype)


@wrong(called="the minus is missing")
def rolled_without_a_sign(x, cos, sin):
    return (x * cos.repeat(1, 2) + x.roll(x.shape[-1] // 2, -1) * sin.repeat(1, 2)).to(x.dtype)


@wrong(called=None)
def a_loop_over_heads(x, cos, sin):
    return torch.stack([rope.apply_rope(x[:, head], cos, sin) for head in range(x.shape[1])], dim=1)


@wrong(called="float16 kept")
def float32_for_bfloat16_alone(x, cos, sin):
    y = x.float() if x.dtype is torch.bfloat16 else x
    cos, sin = cos.to(y.dtype), sin.to(y.dtype)
    a, b = y.chunk(2, -1)
    return torch.cat((a * cos - b * sin, b * cos + a * sin), -1).to(x.dtype)


@wrong(called="half of the gradient")
def what_the_sine_multiplies_detached(x, cos, sin):
    a, b = x.float().chunk(2, -1)
    return torch.cat((a * cos - b.detach() * sin, b * cos + a.detach() * sin), -1).to(x.dtype)


@wrong(called=None)
def x_itself_where_nothing_turns(x, cos, sin):
    return rope.apply_rope(x, cos, sin) if sin.any() or (cos != 1).any() else x


@wrong(called="computed in half precision")
def in_the_dtype_of_x_and_without_gradients(x, cos, sin):
    with torch.no_grad():
        a, b = x.chunk(2, -1)
        cos, sin = cos.to(x.dtype), sin.to(x.dtype)
        return torch.cat((a * cos - b * sin, b * cos + a * sin), -1)
