using System.Diagnostics.CodeAnalysis;
using TorchSharp.Modules;
using TorchSharp.Utils;

namespace TorchSharp;

public static partial class torch
{
    public static partial class nn
    {
        /// <summary>
        /// Parameters, buffers and further modules under names. Nothing is found by reflection: a class registers what it has, in its
        /// constructor or in RegisterComponents.
        /// </summary>
        public class Module : IDisposable
        {
            protected readonly OrderedDict<string, Module> _internal_submodules = [];
            protected readonly OrderedDict<string, (Tensor, bool)> _internal_buffers = [];
            protected readonly OrderedDict<string, Parameter> _internal_params = [];
            protected DeviceType _deviceType = DeviceType.CPU;
            protected int _deviceIndex = -1;
            protected string? name;
            private bool isTraining = true;

            protected Module(string name) => this.name = name;

            public virtual bool training => isTraining;

            public void Dispose()
            {
                Dispose(true);
                GC.SuppressFinalize(this);
            }

            public virtual string GetName() => string.IsNullOrEmpty(name) ? GetType().Name : name;

            public virtual void train(bool train = true)
            {
                isTraining = train;
                foreach (var (_, module) in named_children())
                {
                    module.train(train);
                }
            }

            public virtual void eval() => train(false);

            public virtual Module apply(Action<Module> fn)
            {
                foreach (var (_, module) in named_children())
                {
                    module.apply(fn);
                }

                fn(this);
                return this;
            }

            /// <summary>Drops the gradients, or fills them with zeros.</summary>
            public virtual void zero_grad(bool set_to_none = true)
            {
                foreach (var parameter in parameters())
                {
                    if (set_to_none)
                    {
                        parameter.grad = null;
                        continue;
                    }

                    using var grad = parameter.grad;
                    grad?.detach_().zero_();
                }
            }

            /// <summary>A dot may be part of the name.</summary>
            /// <exception cref="InvalidOperationException">The name is taken.</exception>
            public virtual void register_parameter(string name, Parameter param)
            {
                ThrowIfAbsent(param, nameof(param));
                ThrowIfTaken(_internal_params.ContainsKey(name), "Parameter", name);
                _internal_params.Add(name, param);
            }

            public virtual void register_buffer(string name, Tensor tensor, bool persistent = true)
            {
                ThrowIfAbsent(tensor, nameof(tensor));
                ThrowIfTaken(_internal_buffers.ContainsKey(name), "Buffer", name);
                _internal_buffers.Add(name, (tensor, persistent));
            }

            public virtual void register_module(string name, Module submodule)
            {
                ArgumentException.ThrowIfNullOrEmpty(name);
                if (name.Contains('.', StringComparison.Ordinal))
                {
                    throw new ArgumentException($"The name of a module can't contain a dot, as '{name}' does.", nameof(name));
                }

                ArgumentNullException.ThrowIfNull(submodule);
                ThrowIfTaken(_internal_submodules.ContainsKey(name), "Module", name);
                submodule.RegisterComponents();
                _internal_submodules.Add(name, submodule);
            }

            public void add_module(string name, Module module) => register_module(name, module);

            public virtual IEnumerable<(string name, Parameter parameter)> named_parameters(bool recurse = true)
            {
                var seen = new HashSet<Tensor>(ReferenceEqualityComparer.Instance);
                foreach (var (name, parameter) in _internal_params)
                {
                    if (!parameter.IsInvalid && seen.Add(parameter))
                    {
                        yield return (name, parameter);
                    }
                }

                if (!recurse)
                {
                    yield break;
                }

                foreach (var (prefix, module) in _internal_submodules)
                {
                    foreach (var (name, parameter) in module.named_parameters(true))
                    {
                        if (seen.Add(parameter))
                        {
                            yield return ($"{prefix}.{name}", parameter);
                        }
                    }
                }
            }

            public virtual IEnumerable<Parameter> parameters(bool recurse = true) =>
                named_parameters(recurse).Select(static named => named.parameter);

            public virtual IEnumerable<(string name, Tensor buffer)> named_buffers(bool recurse = true, bool include_nonpersistent = true)
            {
                var seen = new HashSet<Tensor>(ReferenceEqualityComparer.Instance);
                foreach (var (name, (buffer, persistent)) in _internal_buffers)
                {
                    if ((persistent || include_nonpersistent) && !buffer.IsInvalid && seen.Add(buffer))
                    {
                        yield return (name, buffer);
                    }
                }

                if (!recurse)
                {
                    yield break;
                }

                foreach (var (prefix, module) in _internal_submodules)
                {
                    foreach (var (name, buffer) in module.named_buffers(true, include_nonpersistent))
                    {
                        if (seen.Add(buffer))
                        {
                            yield return ($"{prefix}.{name}", buffer);
                        }
                    }
                }
            }

            public virtual IEnumerable<Tensor> buffers(bool recurse = true, bool include_nonpersistent = true) =>
                named_buffers(recurse, include_nonpersistent).Select(static named => named.buffer);

            public virtual IEnumerable<(string name, Module module)> named_children() => _internal_submodules;

            public virtual IEnumerable<Module> children() => named_children().Select(static named => named.module);

            public virtual IEnumerable<(string name, Module module)> named_modules()
            {
                foreach (var (prefix, module) in _internal_submodules)
                {
                    yield return (prefix, module);
                    foreach (var (name, inner) in module.named_modules())
                    {
                        yield return ($"{prefix}.{name}", inner);
                    }
                }
            }

            public virtual IEnumerable<Module> modules() => named_modules().Select(static named => named.module);

            /// <summary>Null when there is none of that name.</summary>
            public virtual Parameter? get_parameter(string target) =>
                _internal_params.TryGetValue(target, out var own)
                    ? own
                    : Child(target, out var child, out var rest) ? child.get_parameter(rest) : null;

            public virtual bool has_parameter(string target) => get_parameter(target) is not null;

            /// <summary>Null when there is none of that name.</summary>
            public virtual Tensor? get_buffer(string target) =>
                _internal_buffers.TryGetValue(target, out var own)
                    ? own.Item1
                    : Child(target, out var child, out var rest) ? child.get_buffer(rest) : null;

            public virtual bool has_buffer(string target) => get_buffer(target) is not null;

            /// <summary>The parameters and the persistent buffers by name: the module's own tensors, not copies.</summary>
            public virtual Dictionary<string, Tensor> state_dict(Dictionary<string, Tensor>? destination = null, string? prefix = null)
            {
                destination ??= [];
                var lead = string.IsNullOrEmpty(prefix) ? "" : prefix + ".";
                foreach (var (name, parameter) in named_parameters())
                {
                    destination.TryAdd(lead + name, parameter);
                }

                foreach (var (name, buffer) in named_buffers(include_nonpersistent: false))
                {
                    destination.TryAdd(lead + name, buffer);
                }

                return destination;
            }

            /// <summary>Copies the values of the same names into this module's tensors.</summary>
            /// <exception cref="InvalidOperationException">strict, and a name is missing or too much.</exception>
            public virtual (IList<string> missing_keys, IList<string> unexpected_keyes) load_state_dict(
                Dictionary<string, Tensor> source, bool strict = true, IList<string>? skip = null)
            {
                var target = state_dict();
                var missing = target.Keys.Where(key => !source.ContainsKey(key) && skip?.Contains(key) != true).ToList();
                var unexpected = source.Keys.Where(key => !target.ContainsKey(key) && skip?.Contains(key) != true).ToList();
                if (strict && missing.Count + unexpected.Count > 0)
                {
                    throw new InvalidOperationException(
                        $"The state_dict does not fit {GetName()}: missing [{string.Join(", ", missing)}], "
                        + $"unexpected [{string.Join(", ", unexpected)}].");
                }

                using var noGrad = no_grad();
                foreach (var (key, tensor) in target)
                {
                    if (source.TryGetValue(key, out var value) && skip?.Contains(key) != true)
                    {
                        tensor.copy_(value);
                    }
                }

                return (missing, unexpected);
            }

            public Module _to(Tensor other, bool non_blocking)
            {
                _to(other.dtype, non_blocking);
                return _to(other.device_type, other.device_index, non_blocking);
            }

            protected internal virtual Module _to(Device device, ScalarType dtype, bool non_blocking)
            {
                ThrowIfNotFloating(dtype);
                _toEpilog(device, dtype, non_blocking);
                return this;
            }

            protected internal virtual Module _to(DeviceType deviceType, int deviceIndex, bool non_blocking)
            {
                InitializeDeviceType(deviceType);
                var index = deviceType == DeviceType.CUDA ? deviceIndex : -1;
                if (deviceType != _deviceType || index != _deviceIndex)
                {
                    _toEpilog(deviceType, index, non_blocking);
                }

                return this;
            }

            protected internal virtual Module _to(ScalarType dtype, bool non_blocking)
            {
                ThrowIfNotFloating(dtype);
                _toEpilog(dtype, non_blocking);
                return this;
            }

            /// <summary>Where a class registers what it has; called when it becomes part of another module.</summary>
            protected virtual void RegisterComponents()
            {
            }

            protected virtual void Dispose(bool disposing)
            {
                if (!disposing)
                {
                    return;
                }

                foreach (var (_, (buffer, _)) in _internal_buffers)
                {
                    buffer.Dispose();
                }

                foreach (var (_, parameter) in _internal_params)
                {
                    parameter.Dispose();
                }

                foreach (var (_, module) in _internal_submodules)
                {
                    module.Dispose();
                }
            }

            protected void _toEpilog(ScalarType dtype, bool non_blocking) => _toEpilog(dtype, null, non_blocking);

            protected void _toEpilog(Device device, ScalarType dtype, bool non_blocking) => _toEpilog(dtype, device, non_blocking);

            protected void _toEpilog(DeviceType deviceType, int deviceIndex, bool non_blocking) =>
                _toEpilog(null, new Device(deviceType, deviceIndex), non_blocking);

            /// <summary>
            /// Converts the parameters and buffers, children first. One that changes is replaced by a new object, and the old one disposed:
            /// a class that keeps them in fields takes them anew after calling this.
            /// </summary>
            protected virtual void _toEpilog(ScalarType? dtype, Device? device, bool non_blocking)
            {
                if (dtype is null && device is null)
                {
                    throw new ArgumentNullException(nameof(dtype), "Give a dtype, a device or both.");
                }

                foreach (var (_, module) in named_children())
                {
                    _ = (dtype, device) switch
                    {
                        ({ } type, { } where) => module._to(where, type, non_blocking),
                        ({ } type, null) => module._to(type, non_blocking),
                        _ => module._to(device!.type, device.index, non_blocking),
                    };
                }

                foreach (var (name, parameter) in named_parameters(false).ToArray())
                {
                    if (ReplaceParameter(dtype, device, parameter, out var replacement))
                    {
                        parameter.Dispose();
                        ConditionallyRegisterParameter(name, replacement);
                    }
                }

                foreach (var (name, (buffer, persistent)) in _internal_buffers.ToArray())
                {
                    if (ReplaceBuffer(dtype, device, buffer, out var replacement))
                    {
                        ConditionallyRegisterBuffer(name, replacement, persistent);
                    }
                }

                if (device is not null)
                {
                    (_deviceType, _deviceIndex) = (device.type, device.index);
                }
            }

            /// <summary>Only floating-point buffers change type. The old one is disposed when it is replaced.</summary>
            protected static bool ReplaceBuffer(ScalarType? dtype, Device? device, Tensor buffer, [NotNullWhen(true)] out Tensor? result)
            {
                result = null;
                var (type, where) = Target(dtype, device, buffer);
                if (IsThere(buffer, type, where))
                {
                    return false;
                }

                result = buffer.to(type, where, disposeAfter: true).DetachFromDisposeScope();
                return true;
            }

            /// <summary>The gradient is converted along.</summary>
            protected static bool ReplaceParameter(ScalarType? dtype, Device? device, Parameter param, [NotNullWhen(true)] out Parameter? p)
            {
                p = null;
                using var grad = param.grad;
                var (type, where) = Target(dtype, device, param);
                if (IsThere(param, type, where) && (grad is null || IsThere(grad, type, where)))
                {
                    return false;
                }

                using var noGrad = no_grad();
                p = new Parameter(param.to(type, where, copy: true), param.requires_grad);
                p.DetachFromDisposeScope();
                if (grad is not null)
                {
                    using var converted = grad.to(type, where);
                    p.grad = converted;
                }

                return true;
            }

            protected void ConditionallyRegisterParameter(string name, Parameter? value)
            {
                if (value is null)
                {
                    _internal_params.Remove(name);
                }
                else
                {
                    _internal_params[name] = value;
                }
            }

            protected void ConditionallyRegisterBuffer(string name, Tensor? value, bool persistent = true)
            {
                if (value is null)
                {
                    _internal_buffers.Remove(name);
                }
                else
                {
                    _internal_buffers[name] = (value, persistent);
                }
            }

            protected void ClearModules() => _internal_submodules.clear();

            private static (ScalarType Type, Device Device) Target(ScalarType? dtype, Device? device, Tensor tensor)
            {
                var current = tensor.dtype;
                return (dtype is { } wanted && is_floating_point(current) ? wanted : current, device ?? tensor.device);
            }

            private static bool IsThere(Tensor tensor, ScalarType type, Device device) => tensor.dtype == type
                && tensor.device_type == device.type && (device.index < 0 || tensor.device_index == device.index);

            private static void ThrowIfNotFloating(ScalarType dtype)
            {
                if (!is_floating_point(dtype))
                {
                    throw new ArgumentException($"A module's parameters can only be of a floating-point type, not {dtype}.", nameof(dtype));
                }
            }

            private static void ThrowIfAbsent(Tensor? tensor, string argument)
            {
                if (tensor is null || tensor.IsInvalid)
                {
                    throw new ArgumentNullException(argument, "A null or disposed tensor cannot be registered.");
                }
            }

            private void ThrowIfTaken(bool taken, string what, string name)
            {
                ArgumentException.ThrowIfNullOrEmpty(name);
                if (taken)
                {
                    throw new InvalidOperationException($"{what} '{name}' is already registered in {GetName()}.");
                }
            }

            private bool Child(string target, [NotNullWhen(true)] out Module? child, out string rest)
            {
                var dot = target.IndexOf('.', StringComparison.Ordinal);
                rest = dot < 0 ? "" : target[(dot + 1)..];
                child = null;
                return dot > 0 && _internal_submodules.TryGetValue(target[..dot], out child);
            }
        }

        /// <summary>A module whose calls can be hooked.</summary>
        public class HookableModule<TPreHook, TPostHook> : Module
        {
            protected readonly Dictionary<string, TPreHook> pre_hooks = [];
            protected readonly Dictionary<string, TPostHook> post_hooks = [];

            protected HookableModule(string name)
                : base(name)
            {
            }

            public HookRemover register_forward_pre_hook(TPreHook hook)
            {
                var key = Guid.NewGuid().ToString();
                pre_hooks.Add(key, hook);
                return new HookRemover(this, key);
            }

            public HookRemover register_forward_hook(TPostHook hook)
            {
                var key = Guid.NewGuid().ToString();
                post_hooks.Add(key, hook);
                return new HookRemover(this, key);
            }

            /// <summary>Takes a hook off again.</summary>
            public class HookRemover(HookableModule<TPreHook, TPostHook> module, string key)
            {
                public void remove()
                {
                    module.pre_hooks.Remove(key);
                    module.post_hooks.Remove(key);
                }
            }
        }

        public interface IModule<T, TResult>
        {
            TResult call(T input1);
        }

        /// <summary>A module with one input.</summary>
        public abstract class Module<T, TResult>
            : HookableModule<Func<Module<T, TResult>, T, T>, Func<Module<T, TResult>, T, TResult, TResult>>, IModule<T, TResult>
        {
            protected Module(string name)
                : base(name)
            {
            }

            /// <summary>The computation, without hooks.</summary>
            public abstract TResult forward(T input);

            /// <summary>The computation between its hooks.</summary>
            public TResult call(T input)
            {
                foreach (var hook in pre_hooks.Values)
                {
                    input = hook(this, input) ?? input;
                }

                var result = forward(input);
                foreach (var hook in post_hooks.Values)
                {
                    result = hook(this, input, result) ?? result;
                }

                return result;
            }
        }
    }
}

/// <summary>Moves and converts a module, and gives it back in its own type.</summary>
public static class ModuleExtensionMethods
{
    public static T to<T>(this T module, torch.ScalarType type, bool non_blocking = false)
        where T : torch.nn.Module => (T)module._to(type, non_blocking);

    public static T to<T>(this T module, DeviceType deviceType, int deviceIndex = -1, bool non_blocking = false)
        where T : torch.nn.Module => (T)module._to(deviceType, deviceIndex, non_blocking);

    public static T to<T>(this T module, torch.Device device, bool non_blocking = false)
        where T : torch.nn.Module => (T)module._to(device.type, device.index, non_blocking);

    public static T to<T>(this T module, torch.Device device, torch.ScalarType type, bool non_blocking = false)
        where T : torch.nn.Module => (T)module._to(device, type, non_blocking);

    public static T to<T>(this T module, string device, bool non_blocking = false)
        where T : torch.nn.Module => module.to(new torch.Device(device), non_blocking);

    public static T to<T>(this T module, torch.Tensor other, bool non_blocking = false)
        where T : torch.nn.Module => (T)module._to(other, non_blocking);

    public static T cpu<T>(this T module, bool non_blocking = false)
        where T : torch.nn.Module => module.to(DeviceType.CPU, -1, non_blocking);

    public static T cuda<T>(this T module, int deviceIndex = -1, bool non_blocking = false)
        where T : torch.nn.Module => module.to(DeviceType.CUDA, deviceIndex, non_blocking);

    public static T half<T>(this T module, bool non_blocking = false)
        where T : torch.nn.Module => module.to(torch.ScalarType.Float16, non_blocking);

    public static T bfloat16<T>(this T module, bool non_blocking = false)
        where T : torch.nn.Module => module.to(torch.ScalarType.BFloat16, non_blocking);

    public static T @float<T>(this T module, bool non_blocking = false)
        where T : torch.nn.Module => module.to(torch.ScalarType.Float32, non_blocking);

    public static T @double<T>(this T module, bool non_blocking = false)
        where T : torch.nn.Module => module.to(torch.ScalarType.Float64, non_blocking);
}
