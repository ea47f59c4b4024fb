// Tensors: making them, what they are, their bytes, and views of them.
#include "scalar.h"

using namespace mf;

namespace {

thread_local std::string last_error;

at::TensorOptions options(int dtype, int device_type, int device_index) {
    return at::TensorOptions().dtype(static_cast<at::ScalarType>(dtype)).device(device(device_type, device_index));
}

at::Tensor marked(at::Tensor t, int requires_grad) {
    if (requires_grad != 0) t.set_requires_grad(true);
    return t;
}

}  // namespace

void mf::set_error(std::string message) noexcept { last_error = std::move(message); }

MF_API const char* mf_last_error() { return last_error.c_str(); }

MF_API void mf_tensor_free(Handle t) { delete t; }

// A new handle on the same tensor.
MF_API Handle mf_alias(Handle t) { return tensor([&] { return *t; }); }

// ---- making ----

MF_API Handle mf_empty(const int64_t* size, int64_t count, int dtype, int dev, int index, int requires_grad) {
    return tensor([&] { return marked(at::empty(dims(size, count), options(dtype, dev, index)), requires_grad); });
}

MF_API Handle mf_zeros(const int64_t* size, int64_t count, int dtype, int dev, int index, int requires_grad) {
    return tensor([&] { return marked(at::zeros(dims(size, count), options(dtype, dev, index)), requires_grad); });
}

MF_API Handle mf_ones(const int64_t* size, int64_t count, int dtype, int dev, int index, int requires_grad) {
    return tensor([&] { return marked(at::ones(dims(size, count), options(dtype, dev, index)), requires_grad); });
}

MF_API Handle mf_full(const int64_t* size, int64_t count, MfScalar value, int dtype, int dev, int index, int requires_grad) {
    return tensor([&] { return marked(at::full(dims(size, count), scalar(value), options(dtype, dev, index)), requires_grad); });
}

MF_API Handle mf_arange(MfScalar start, MfScalar stop, MfScalar step, int dtype, int dev, int index, int requires_grad) {
    return tensor([&] {
        return marked(at::arange(scalar(start), scalar(stop), scalar(step), options(dtype, dev, index)), requires_grad);
    });
}

MF_API Handle mf_linspace(double start, double end, int64_t steps, int dtype, int dev, int index, int requires_grad) {
    return tensor([&] { return marked(at::linspace(start, end, steps, options(dtype, dev, index)), requires_grad); });
}

MF_API Handle mf_eye(int64_t rows, int64_t columns, int dtype, int dev, int index, int requires_grad) {
    return tensor([&] { return marked(at::eye(rows, columns, options(dtype, dev, index)), requires_grad); });
}

MF_API Handle mf_rand(const int64_t* size, int64_t count, at::Generator* g, int dtype, int dev, int index, int requires_grad) {
    return tensor([&] { return marked(at::rand(dims(size, count), generator(g), options(dtype, dev, index)), requires_grad); });
}

MF_API Handle mf_randn(const int64_t* size, int64_t count, at::Generator* g, int dtype, int dev, int index, int requires_grad) {
    return tensor([&] { return marked(at::randn(dims(size, count), generator(g), options(dtype, dev, index)), requires_grad); });
}

MF_API Handle mf_randint(int64_t low, int64_t high, const int64_t* size, int64_t count, at::Generator* g, int dtype, int dev,
                         int index, int requires_grad) {
    return tensor([&] {
        return marked(at::randint(low, high, dims(size, count), generator(g), options(dtype, dev, index)), requires_grad);
    });
}

MF_API Handle mf_randperm(int64_t n, at::Generator* g, int dtype, int dev, int index, int requires_grad) {
    return tensor([&] { return marked(at::randperm(n, generator(g), options(dtype, dev, index)), requires_grad); });
}

// Copies `data`, host memory of type `source_dtype`, into a new tensor.
MF_API Handle mf_from_data(const void* data, const int64_t* size, int64_t count, int source_dtype, int dtype, int dev, int index,
                           int requires_grad) {
    return tensor([&] {
        auto source = at::from_blob(const_cast<void*>(data), dims(size, count), at::dtype(static_cast<at::ScalarType>(source_dtype)));
        return marked(source.to(options(dtype, dev, index), /*non_blocking=*/false, /*copy=*/true), requires_grad);
    });
}

// A tensor over memory that someone else owns; `release(context)` is called when the last view of it is gone.
MF_API Handle mf_from_blob(void* data, const int64_t* size, int64_t count, int dtype, void (*release)(void*), void* context) {
    return tensor([&] {
        return at::from_blob(data, dims(size, count), [=](void*) { release(context); },
                             at::dtype(static_cast<at::ScalarType>(dtype)));
    });
}

MF_API Handle mf_empty_like(Handle t, int dtype, int dev, int index, int requires_grad) {
    return tensor([&] {
        auto o = at::TensorOptions().dtype(optional_dtype(dtype)).device(optional_device(dev, index));
        return marked(at::empty_like(*t, o), requires_grad);
    });
}

// ---- what it is; none of these can fail on a defined tensor ----

MF_API int64_t mf_dim(Handle t) { return t->dim(); }
MF_API int64_t mf_numel(Handle t) { return t->numel(); }
MF_API int64_t mf_element_size(Handle t) { return static_cast<int64_t>(t->element_size()); }
MF_API int mf_dtype(Handle t) { return static_cast<int>(t->scalar_type()); }
MF_API int mf_device_type(Handle t) { return static_cast<int>(t->device().type()); }
MF_API int mf_device_index(Handle t) { return t->device().index(); }
MF_API int mf_is_contiguous(Handle t) { return t->is_contiguous(); }
MF_API int mf_is_sparse(Handle t) { return t->is_sparse(); }
MF_API int mf_is_leaf(Handle t) { return t->is_leaf(); }
MF_API int mf_requires_grad(Handle t) { return t->requires_grad(); }

MF_API void mf_sizes(Handle t, int64_t* into) {
    auto sizes = t->sizes();
    std::copy(sizes.begin(), sizes.end(), into);
}

MF_API int mf_strides(Handle t, int64_t* into) {
    return status([&] {
        auto strides = t->strides();
        std::copy(strides.begin(), strides.end(), into);
    });
}

MF_API int mf_size(Handle t, int64_t dim, int64_t* into) {
    return status([&] { *into = t->size(dim); });
}

MF_API int mf_stride(Handle t, int64_t dim, int64_t* into) {
    return status([&] { *into = t->stride(dim); });
}

MF_API int mf_storage_offset(Handle t, int64_t* into) {
    return status([&] { *into = t->storage_offset(); });
}

MF_API int mf_data_ptr(Handle t, void** into) {
    return status([&] { *into = t->data_ptr(); });
}

// The only element, as a double or an int64 (`*kind` as in MfScalar).
MF_API int mf_item(Handle t, MfScalar* into) {
    return status([&] {
        auto value = t->item();
        if (value.isFloatingPoint()) {
            double number = value.toDouble();
            std::memcpy(&into->bits, &number, sizeof number);
            into->kind = 1;
        } else if (value.isBoolean()) {
            into->bits = value.toBool();
            into->kind = 3;
        } else {
            into->bits = value.toLong();
            into->kind = 2;
        }
    });
}

// ---- copies and conversions ----

MF_API Handle mf_clone(Handle t) { return tensor([&] { return t->clone(); }); }
MF_API Handle mf_contiguous(Handle t) { return tensor([&] { return t->contiguous(); }); }
MF_API Handle mf_cpu(Handle t) { return tensor([&] { return t->cpu(); }); }

MF_API Handle mf_to(Handle t, int dtype, int dev, int index, int non_blocking, int copy) {
    return tensor([&] {
        auto o = at::TensorOptions().dtype(optional_dtype(dtype)).device(optional_device(dev, index));
        return t->to(o, non_blocking != 0, copy != 0);
    });
}

MF_API int mf_copy_(Handle t, Handle source, int non_blocking) {
    return status([&] { t->copy_(*source, non_blocking != 0); });
}

MF_API int mf_set_(Handle t, Handle source) {
    return status([&] { t->set_(*source); });
}

// ---- views ----

MF_API Handle mf_view(Handle t, const int64_t* size, int64_t count) { return tensor([&] { return t->view(dims(size, count)); }); }
MF_API Handle mf_reshape(Handle t, const int64_t* size, int64_t count) { return tensor([&] { return t->reshape(dims(size, count)); }); }
MF_API Handle mf_expand(Handle t, const int64_t* size, int64_t count, int is_implicit) {
    return tensor([&] { return t->expand(dims(size, count), is_implicit != 0); });
}
MF_API Handle mf_repeat(Handle t, const int64_t* size, int64_t count) { return tensor([&] { return t->repeat(dims(size, count)); }); }
MF_API Handle mf_permute(Handle t, const int64_t* order, int64_t count) { return tensor([&] { return t->permute(dims(order, count)); }); }
MF_API Handle mf_flip(Handle t, const int64_t* axes, int64_t count) { return tensor([&] { return t->flip(dims(axes, count)); }); }
MF_API Handle mf_transpose(Handle t, int64_t a, int64_t b) { return tensor([&] { return t->transpose(a, b); }); }
MF_API Handle mf_t(Handle t) { return tensor([&] { return t->t(); }); }
MF_API Handle mf_narrow(Handle t, int64_t dim, int64_t start, int64_t length) {
    return tensor([&] { return t->narrow(dim, start, length); });
}
MF_API Handle mf_slice(Handle t, int64_t dim, int64_t start, int64_t finish, int64_t step) {
    return tensor([&] { return t->slice(dim, start, finish, step); });
}
MF_API Handle mf_select(Handle t, int64_t dim, int64_t index) { return tensor([&] { return t->select(dim, index); }); }
MF_API Handle mf_unsqueeze(Handle t, int64_t dim) { return tensor([&] { return t->unsqueeze(dim); }); }
MF_API Handle mf_squeeze(Handle t) { return tensor([&] { return t->squeeze(); }); }
MF_API Handle mf_squeeze_dim(Handle t, int64_t dim) { return tensor([&] { return t->squeeze(dim); }); }
MF_API Handle mf_flatten(Handle t, int64_t start, int64_t end) { return tensor([&] { return t->flatten(start, end); }); }
MF_API Handle mf_diagonal(Handle t, int64_t offset, int64_t dim1, int64_t dim2) {
    return tensor([&] { return t->diagonal(offset, dim1, dim2); });
}
MF_API Handle mf_unfold(Handle t, int64_t dim, int64_t size, int64_t step) { return tensor([&] { return t->unfold(dim, size, step); }); }
MF_API Handle mf_as_strided(Handle t, const int64_t* size, int64_t count, const int64_t* strides, int64_t stride_count, int64_t offset) {
    return tensor([&] { return t->as_strided(dims(size, count), dims(strides, stride_count), offset); });
}

namespace {

// Hands the parts over one by one; `into` has room for `room` handles. Returns how many, or -1.
int64_t parts(Handle* into, int64_t room, std::vector<at::Tensor> (*make)(void*), void* context) {
    int64_t count = -1;
    guarded([&] {
        auto made = make(context);
        TORCH_CHECK(static_cast<int64_t>(made.size()) <= room, "more parts than expected");
        for (size_t i = 0; i < made.size(); i++) into[i] = new at::Tensor(std::move(made[i]));
        count = static_cast<int64_t>(made.size());
    });
    return count;
}

template <class Body>
int64_t parts(Handle* into, int64_t room, Body body) {
    return parts(into, room, [](void* context) { return (*static_cast<Body*>(context))(); }, &body);
}

}  // namespace

MF_API int64_t mf_chunk(Handle t, int64_t chunks, int64_t dim, Handle* into, int64_t room) {
    return parts(into, room, [=] { return t->chunk(chunks, dim); });
}
MF_API int64_t mf_split(Handle t, int64_t size, int64_t dim, Handle* into, int64_t room) {
    return parts(into, room, [=] { return t->split(size, dim); });
}
MF_API int64_t mf_split_sizes(Handle t, const int64_t* sizes, int64_t count, int64_t dim, Handle* into, int64_t room) {
    return parts(into, room, [=] { return t->split_with_sizes(dims(sizes, count), dim); });
}
MF_API int64_t mf_unbind(Handle t, int64_t dim, Handle* into, int64_t room) {
    return parts(into, room, [=] { return t->unbind(dim); });
}

// ---- joining ----

MF_API Handle mf_cat(const Handle* tensors, int64_t count, int64_t dim) {
    return tensor([&] { return at::cat(list(tensors, count), dim); });
}
MF_API Handle mf_stack(const Handle* tensors, int64_t count, int64_t dim) {
    return tensor([&] { return at::stack(list(tensors, count), dim); });
}
