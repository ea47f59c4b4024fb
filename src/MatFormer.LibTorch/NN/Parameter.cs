using static TorchSharp.torch;

namespace TorchSharp
{
    namespace Modules
    {
        /// <summary>A tensor that a module trains.</summary>
        public class Parameter : Tensor
        {
            /// <summary>Takes over the handle of <paramref name="data"/>, which is disposed by it, and its place in a scope.</summary>
            public Parameter(Tensor data, bool requires_grad = true)
                : base(data.requires_grad_(requires_grad).Surrender(out var scope), register: false) => scope?.Add(this);
        }
    }

    public static partial class torch
    {
        public static partial class nn
        {
            public static Modules.Parameter Parameter(Tensor data, bool requires_grad = true) => new(data, requires_grad);
        }
    }
}
