namespace TorchSharp
{
    namespace Modules
    {
        /// <summary>A module that has nothing to train.</summary>
        public abstract class ParameterLessModule<T1, TResult> : torch.nn.Module<T1, TResult>
        {
            protected ParameterLessModule(string name)
                : base(name)
            {
            }
        }

        /// <summary>x times the normal distribution's cumulative function of x.</summary>
        public sealed class GELU : ParameterLessModule<torch.Tensor, torch.Tensor>
        {
            internal GELU(Approximate approximate, bool inplace)
                : base(nameof(GELU))
            {
                this.approximate = approximate;
                this.inplace = inplace;
            }

            /// <summary>Exactly, or by tanh.</summary>
            public enum Approximate
            {
                none,
                tanh,
            }

            public Approximate approximate { get; set; }

            public bool inplace { get; set; }

            public override torch.Tensor forward(torch.Tensor tensor) => torch.nn.functional.gelu(tensor, approximate, inplace);
        }
    }

    public static partial class torch
    {
        public static partial class nn
        {
            public static Modules.GELU GELU(Modules.GELU.Approximate approximate, bool inplace = false) => new(approximate, inplace);
        }
    }
}
