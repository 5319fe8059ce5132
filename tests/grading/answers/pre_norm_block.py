"""Other answers to pre_norm_block."""

import torch

from tests.grading.answers import right, wrong


@right
def in_a_loop(x, attention_norm, attention, feed_forward_norm, feed_forward):
    for norm, layer in ((attention_norm, attention), (feed_forward_norm, feed_forward)):
        x = torch.add(x, layer(norm(x)))
    return x


@right
def by_a_stack(x, attention_norm, attention, feed_forward_norm, feed_forward):
    gathered = attention(attention_norm(x))
    made = feed_forward(feed_forward_norm(gathered + x))
    return torch.stack((x, gathered, made)).sum(dim=0)


@wrong(called="a copy changed in place")
def in_place_on_a_copy(x, attention_norm, attention, feed_forward_norm, feed_forward):
    stream = x.clone()
    stream += attention(attention_norm(stream))
    return stream.add(feed_forward(feed_forward_norm(stream)))


@right
def with_names_for_all(x, attention_norm, attention, feed_forward_norm, feed_forward):
    residual = x
    hidden = attention_norm(x)
    hidden = attention(hidden)
    hidden = residual + hidden
    residual = hidden
    hidden = feed_forward_norm(hidden)
    hidden = feed_forward(hidden)
    return hidden + residual


@right
def as_nested_modules(x, attention_norm, attention, feed_forward_norm, feed_forward):
    def residual(norm, layer):
        return lambda stream: stream + layer(norm(stream))

    return residual(feed_forward_norm, feed_forward)(residual(attention_norm, attention)(x))


@wrong(called="a copy changed in place")
def in_place_on_a_clone(x, attention_norm, attention, feed_forward_norm, feed_forward):
    x = x + 0
    x += attention(attention_norm(x))
    return x + feed_forward(feed_forward_norm(x))


@right
def by_a_sum_over_a_new_axis(x, attention_norm, attention, feed_forward_norm, feed_forward):
    stream = sum((x, attention(attention_norm(x))))
    return torch.sum(torch.stack([stream, feed_forward(feed_forward_norm(stream))], dim=-1), dim=-1)


@wrong()
def half_of_each(x, attention_norm, attention, feed_forward_norm, feed_forward):
    x = (x + attention(attention_norm(x))) / 2
    return (x + feed_forward(feed_forward_norm(x))) / 2


@wrong()
def attention_twice(x, attention_norm, attention, feed_forward_norm, feed_forward):
    x = x + attention(attention_norm(x))
    return x + feed_forward(feed_forward_norm(x)) + 0 * attention(attention_norm(x))


@wrong()
def residual_cut_off(x, attention_norm, attention, feed_forward_norm, feed_forward):
    x = x.detach() + attention(attention_norm(x))
    return x.detach() + feed_forward(feed_forward_norm(x))


@wrong()
def norm_at_the_end(x, attention_norm, attention, feed_forward_norm, feed_forward):
    x = x + attention(attention_norm(x))
    return feed_forward_norm(x + feed_forward(feed_forward_norm(x)))


@wrong()
def second_norm_of_the_first_copy(x, attention_norm, attention, feed_forward_norm, feed_forward):
    copy = attention_norm(x)
    x = x + attention(copy)
    return x + feed_forward(feed_forward_norm(copy))


@wrong(called="added into what feed_forward returned")
def added_in_place_to_the_results(x, attention_norm, attention, feed_forward_norm, feed_forward):
    h = attention(attention_norm(x))
    h += x
    out = feed_forward(feed_forward_norm(h))
    out += h
    return out


@wrong(called="x overwritten")
def another_name_for_x(x, attention_norm, attention, feed_forward_norm, feed_forward):
    h = x
    h += attention(attention_norm(h))
    return h + feed_forward(feed_forward_norm(h))


@wrong(called="attention's result is left out of the sum")
def residual_kept_from_the_start(x, attention_norm, attention, feed_forward_norm, feed_forward):
    residual = x
    x = attention(attention_norm(x)) + residual
    return feed_forward(feed_forward_norm(x)) + residual


@wrong(called="both layers read through one norm")
def in_parallel(x, attention_norm, attention, feed_forward_norm, feed_forward):
    read = attention_norm(x)
    return x + attention(read) + feed_forward(read)


@wrong(called="no gradient back through attention")
def attention_under_no_grad(x, attention_norm, attention, feed_forward_norm, feed_forward):
    with torch.no_grad():
        gathered = attention(attention_norm(x))
    x = x + gathered
    return x + feed_forward(feed_forward_norm(x))


ADDED_INTO = "added into what attention returned"


@wrong(called=ADDED_INTO)
def added_to_attention_s_result(x, attention_norm, attention, feed_forward_norm, feed_forward):
    h = attention(attention_norm(x)).add_(x)
    return h + feed_forward(feed_forward_norm(h))


@wrong(called="no gradient back through feed_forward")
def a_copy_read_without_gradient(x, attention_norm, attention, feed_forward_norm, feed_forward):
    h = x + attention(attention_norm(x))
    return h + feed_forward(feed_forward_norm(h.detach()))


@wrong(called="no gradient back through attention")
def attention_reads_a_detached_norm(x, attention_norm, attention, feed_forward_norm, feed_forward):
    h = x + attention(attention_norm(x).detach())
    return h + feed_forward(feed_forward_norm(h))


@wrong(called="the second residual is cut off from the gradient")
def second_residual_as_data(x, attention_norm, attention, feed_forward_norm, feed_forward):
    h = x + attention(attention_norm(x))
    return h.data + feed_forward(feed_forward_norm(h))


@wrong(never=(ADDED_INTO,))
def in_place_in_inference(x, attention_norm, attention, feed_forward_norm, feed_forward):
    if x.requires_grad:
        h = x + attention(attention_norm(x))
        return h + feed_forward(feed_forward_norm(h))
    x += attention(attention_norm(x))
    x += feed_forward(feed_forward_norm(x))
    return x


@wrong(never=(ADDED_INTO,))
def written_into_what_the_norm_returned(x, attention_norm, attention, feed_forward_norm, feed_forward):
    read = attention_norm(x)
    gathered = attention(read)
    h = x + gathered if read.requires_grad else read.copy_(gathered).add_(x)
    return h + feed_forward(feed_forward_norm(h))


@wrong(called="added into what feed_forward returned")
def added_to_feed_forward_s_result(x, attention_norm, attention, feed_forward_norm, feed_forward):
    h = x + attention(attention_norm(x))
    return feed_forward(feed_forward_norm(h)).add_(h)


@wrong(called="norm before and after the layer")
def sandwich(x, attention_norm, attention, feed_forward_norm, feed_forward):
    for norm, layer in ((attention_norm, attention), (feed_forward_norm, feed_forward)):
        x = x + norm(layer(norm(x)))
    return x


@wrong(called="one norm before and one after")
def half_post_norm(x, attention_norm, attention, feed_forward_norm, feed_forward):
    x = x + attention(attention_norm(x))
    return feed_forward_norm(x + feed_forward(x))


@wrong(called="the last sum starts from a normalised copy")
def second_norm_kept_as_x(x, attention_norm, attention, feed_forward_norm, feed_forward):
    x = x + attention(attention_norm(x))
    x = feed_forward_norm(x)
    return x + feed_forward(x)
