using System.Globalization;

namespace TorchSharp;

public static partial class torch
{
    private static Device? cudaDevice;
    private static Device defaultDevice = new(DeviceType.CPU);

    public static readonly Device CPU = new(DeviceType.CPU);

    public static readonly Device META = new(DeviceType.META);

    public static Device CUDA => cudaDevice ??= InitializeDevice(new Device(DeviceType.CUDA));

    public static Device device(string description) => InitializeDevice(new Device(description));

    public static Device device(string deviceType, int index = -1) => InitializeDevice(new Device(deviceType, index));

    public static Device device(DeviceType deviceType, int index = -1) => InitializeDevice(new Device(deviceType, index));

    public static Device device(int index) => InitializeDevice(new Device(DeviceType.CUDA, index));

    public static Device get_default_device() => defaultDevice;

    public static void set_default_device(Device device) => defaultDevice = InitializeDevice(device);

    public static void set_default_device(string device) => set_default_device(new Device(device));

    /// <summary>Loads nothing, for the library was linked with all of its libtorch; refuses a device that is not there.</summary>
    /// <exception cref="InvalidOperationException">A CUDA device is asked for, and libtorch sees none.</exception>
    public static void InitializeDeviceType(DeviceType deviceType)
    {
        if (!TryInitializeDeviceType(deviceType))
        {
            throw new InvalidOperationException($"This libtorch ({MatFormer.Torch.Native.LibTorchVersion}) sees no {deviceType} device.");
        }
    }

    public static bool TryInitializeDeviceType(DeviceType deviceType) => deviceType switch
    {
        DeviceType.CPU or DeviceType.META => true,
        DeviceType.CUDA => cuda.is_available(),
        _ => false,
    };

    /// <summary>The given device, or the default one for null.</summary>
    public static Device InitializeDevice(Device? device)
    {
        device ??= defaultDevice;
        if (device.type != DeviceType.CPU)
        {
            InitializeDeviceType(device.type);
        }

        return device;
    }

    /// <summary>Where tensors are: a type, and for CUDA an index (-1: the current one).</summary>
    public class Device
    {
        /// <param name="description">Such as "cpu", "cuda" or "cuda:0".</param>
        public Device(string description)
        {
            ArgumentNullException.ThrowIfNull(description);
            var colon = description.IndexOf(':', StringComparison.Ordinal);
            type = ParseType(colon < 0 ? description : description[..colon], description);
            if (colon >= 0)
            {
                index = int.TryParse(description.AsSpan(colon + 1), NumberStyles.None, CultureInfo.InvariantCulture, out var parsed)
                    ? parsed
                    : throw new ArgumentException($"'{description}' names no device: after the colon an index is expected, as in 'cuda:0'.",
                        nameof(description));
            }
        }

        public Device(string deviceType, int index = -1)
        {
            ArgumentNullException.ThrowIfNull(deviceType);
            type = ParseType(deviceType, deviceType);
            this.index = index;
        }

        public Device(DeviceType deviceType, int index = -1)
        {
            type = deviceType;
            this.index = index;
        }

        public Device(int index)
        {
            type = DeviceType.CUDA;
            this.index = index;
        }

        public DeviceType type { get; }

        public int index { get; } = -1;

        public static implicit operator Device(string description) => new(description);

        public override string ToString()
        {
            var name = type.ToString().ToLowerInvariant();
            return type == DeviceType.CPU || index < 0 ? name : string.Create(CultureInfo.InvariantCulture, $"{name}:{index}");
        }

        private static DeviceType ParseType(string name, string description) =>
            Enum.TryParse<DeviceType>(name, ignoreCase: true, out var parsed) && !int.TryParse(name, out _)
                ? parsed
                : throw new ArgumentException($"'{description}' names no device: 'cpu', 'cuda' or 'cuda:0' are expected.",
                    nameof(description));
    }
}
