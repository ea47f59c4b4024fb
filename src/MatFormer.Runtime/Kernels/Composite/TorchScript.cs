using TorchSharp;
using static MatFormer.Numbers;
using static TorchSharp.torch;

namespace MatFormer;

/// <summary>
/// Calls operations of libtorch that TorchSharp does not bind, through a few lines of TorchScript. They are compiled when one is first
/// needed. If compilation fails, each operation is composed of TorchSharp's operations.
/// </summary>
internal static class TorchScript
{
    // The text must end with an empty line.
    private const string Text = """
        def rms_norm(x: Tensor, weight: Tensor, epsilon: float) -> Tensor:
            return torch.rms_norm(x, [x.size(-1)], weight, epsilon)

        def attention(query: Tensor, key: Tensor, value: Tensor, causal: bool, grouped: bool) -> Tensor:
            return torch.scaled_dot_product_attention(query, key, value, None, 0.0, causal, scale=None, enable_gqa=grouped)

        def masked_attention(query: Tensor, key: Tensor, value: Tensor, mask: Tensor, grouped: bool) -> Tensor:
            return torch.scaled_dot_product_attention(query, key, value, mask, 0.0, False, scale=None, enable_gqa=grouped)

        def softmax_backward(gradient: Tensor, output: Tensor) -> Tensor:
            return torch._softmax_backward_data(gradient, output, -1, output.dtype)

        def silu_backward(gradient: Tensor, x: Tensor) -> Tensor:
            return torch.silu_backward(gradient, x)

        def gelu_backward(gradient: Tensor, x: Tensor) -> Tensor:
            return torch.gelu_backward(gradient, x, approximate="none")

        def adamw(
            weights: List[Tensor], gradients: List[Tensor], first: List[Tensor], second: List[Tensor], steps: List[Tensor], rate: float,
            beta1: float, beta2: float, decay: float, epsilon: float):
            largest: List[Tensor] = []
            torch._fused_adamw_(
                weights, gradients, first, second, largest, steps, lr=rate, beta1=beta1, beta2=beta2, weight_decay=decay, eps=epsilon,
                amsgrad=False, maximize=False)


        """;

    private static readonly Lazy<jit.CompilationUnit?> s_unit = new(Compile);

    /// <summary>Whether only TorchSharp's own operations are used. For tests.</summary>
    public static bool IsDisabled { get; set; }

    private static jit.CompilationUnit? Unit => IsDisabled ? null : s_unit.Value;

    /// <summary>Computes RMSNorm over the last dimension. The weight must have x's dtype.</summary>
    public static Tensor RmsNorm(Tensor x, Tensor weight, double epsilon) =>
        Unit is { } unit ? Compute(unit, "rms_norm", x, weight, epsilon) : Kernels.Composite.PlainRmsNorm(x, weight, epsilon);

    /// <summary>
    /// Computes softmax(query key^T / sqrt(D) + mask) value -> (B, H, T, D).
    /// </summary>
    /// <param name="query">(B, H, T, D).</param>
    /// <param name="key">(B, Hkv, S, D), where H is a multiple of Hkv.</param>
    /// <param name="value">(B, Hkv, S, D).</param>
    /// <param name="mask">Added before the softmax, broadcast to (B, H, T, S); or null.</param>
    /// <param name="isCausal">Whether query t sees only keys 0 to t. T must equal S then, and the mask must be null.</param>
    public static Tensor Attention(Tensor query, Tensor key, Tensor value, Tensor? mask, bool isCausal)
    {
        var groups = query.shape[1] / key.shape[1];
        if (groups > 1 && Unit is { } unit)
        {
            return mask is null
                ? Compute(unit, "attention", query, key, value, isCausal, true)
                : Compute(unit, "masked_attention", query, key, value, mask, true);
        }

        if (groups > 1) (key, value) = (key.repeat_interleave(groups, 1), value.repeat_interleave(groups, 1));
        return nn.functional.scaled_dot_product_attention(query, key, value, mask, 0, isCausal);
    }

    /// <summary>Returns the gradient of the input of a softmax over the last dimension.</summary>
    public static Tensor SoftmaxBackward(Tensor gradient, Tensor output)
    {
        if (Unit is { } unit) return Compute(unit, "softmax_backward", gradient, output);
        var (wide, p) = (gradient.to(ScalarType.Float32), output.to(ScalarType.Float32));
        return wide.sub(wide.mul(p).sum([-1], keepdim: true)).mul_(p).to(output.dtype);
    }

    /// <summary>Returns the gradient of x, given the gradient of silu(x).</summary>
    public static Tensor SiluBackward(Tensor gradient, Tensor x)
    {
        if (Unit is { } unit) return Compute(unit, "silu_backward", gradient, x);
        var wide = x.to(ScalarType.Float32);
        var s = wide.sigmoid();
        return s.mul(wide.mul(s.neg().add_(One, One)).add_(One, One)).mul_(gradient).to(x.dtype);
    }

    /// <summary>Returns the gradient of x, given the gradient of gelu(x) in its form with erf.</summary>
    public static Tensor GeluBackward(Tensor gradient, Tensor x)
    {
        if (Unit is { } unit) return Compute(unit, "gelu_backward", gradient, x);
        var wide = x.to(ScalarType.Float32);
        var below = wide.mul(Number(Math.Sqrt(0.5))).erf_().add_(One, One).mul_(Number(0.5));
        var density = Square(wide).mul_(Number(-0.5)).exp_().mul_(Number(1 / Math.Sqrt(2 * Math.PI)));
        return below.add_(density.mul_(wide), One).mul_(gradient).to(x.dtype);
    }

    /// <summary>Runs one AdamW step in place. Returns false if libtorch's fused operation cannot be called.</summary>
    public static bool TryAdamW(
        Tensor weights, Tensor gradients, Tensor first, Tensor second, Tensor step, double rate, double beta1, double beta2, double decay,
        double epsilon)
    {
        if (Unit is not { } unit) return false;

        // The lists are made here because libtorch would change copies of lists that the script makes.
        Tensor[] Listed(Tensor tensor) => [tensor];
        Invoke(
            unit, "adamw", Listed(weights), Listed(gradients), Listed(first),
            Listed(second), Listed(step), rate, beta1, beta2, decay, epsilon);
        return true;
    }

    private static object? Invoke(jit.CompilationUnit unit, string name, params object[] arguments)
    {
        for (var i = 0; i < arguments.Length; i++)
        {
            if (arguments[i] is double number) arguments[i] = Number(number);
        }

        return unit.invoke(name, arguments);
    }

    private static Tensor Compute(jit.CompilationUnit unit, string name, params object[] arguments) =>
        (Tensor)Invoke(unit, name, arguments)!;

    private static jit.CompilationUnit? Compile()
    {
        try
        {
            return jit.compile(Text);
        }
        catch (System.Runtime.InteropServices.ExternalException)
        {
            return null;
        }
    }
}
