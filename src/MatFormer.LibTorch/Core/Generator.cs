using MatFormer.Torch;
using static MatFormer.Torch.NativeMethods;

namespace TorchSharp;

public static partial class torch
{
    /// <summary>Seeds every device's default generator.</summary>
    public static Generator manual_seed(long seed)
    {
        Native.Check(mf_manual_seed(seed));
        return Generator.Default;
    }

    /// <summary>Seeds the default CPU generator from the machine's randomness, and gives the seed.</summary>
    public static long seed() => Generator.Default.seed();

    public static long initial_seed() => Generator.Default.initial_seed();

    /// <summary>The whole state of the default CPU generator, as bytes.</summary>
    public static Tensor get_rng_state() => Generator.Default.get_state();

    public static void set_rng_state(Tensor new_state) => Generator.Default.set_state(new_state);

    public static class random
    {
        public static Generator manual_seed(long seed) => torch.manual_seed(seed);

        public static long seed() => torch.seed();

        public static long initial_seed() => torch.initial_seed();

        public static Tensor get_rng_state() => torch.get_rng_state();

        public static void set_rng_state(Tensor new_state) => torch.set_rng_state(new_state);
    }

    /// <summary>A source of random numbers, with a state of its own.</summary>
    public class Generator : IDisposable
    {
        private static Generator? shared;
        private nint handle;

        public Generator(ulong seed = 0, Device? device = null)
        {
            this.device = InitializeDevice(device);
            handle = mf_new_generator(seed, (int)this.device.type, Math.Max(0, this.device.index));
            if (handle == 0)
            {
                Native.ThrowLastError();
            }
        }

        private Generator(nint handle)
        {
            device = CPU;
            this.handle = handle;
        }

        ~Generator() => Dispose(false);

        /// <summary>The default CPU generator.</summary>
        public static Generator Default => shared ??= new Generator(mf_default_generator());

        public nint Handle
        {
            get
            {
                ObjectDisposedException.ThrowIf(handle == 0, this);
                return handle;
            }
        }

        public Device device { get; }

        public Generator manual_seed(long seed)
        {
            Check(mf_generator_manual_seed(Handle, seed));
            return this;
        }

        public unsafe long seed()
        {
            long result;
            Check(mf_generator_seed(Handle, &result));
            return result;
        }

        public unsafe long initial_seed()
        {
            long result;
            Check(mf_generator_current_seed(Handle, &result));
            return result;
        }

        public Tensor get_state()
        {
            var made = mf_generator_get_state(Handle);
            GC.KeepAlive(this);
            return Tensor.Take(made);
        }

        public void set_state(Tensor value)
        {
            Check(mf_generator_set_state(Handle, Tensor.H(value)));
            GC.KeepAlive(value);
        }

        public void Dispose()
        {
            // The default one is everybody's.
            if (!ReferenceEquals(this, shared))
            {
                Dispose(true);
                GC.SuppressFinalize(this);
            }
        }

        /// <summary>0 for null. The caller keeps the generator alive.</summary>
        internal static nint HandleOf(Generator? generator) => generator is null ? 0 : generator.Handle;

        protected virtual void Dispose(bool disposing)
        {
            if (handle != 0)
            {
                ProcessEnd.RunUnlessEnding(handle, static freed => mf_generator_free(freed));
                handle = 0;
            }
        }

        private void Check(int status)
        {
            GC.KeepAlive(this);
            Native.Check(status);
        }
    }
}
