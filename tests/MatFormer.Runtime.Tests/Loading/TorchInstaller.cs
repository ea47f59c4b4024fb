using System.Diagnostics.CodeAnalysis;
using System.Runtime.CompilerServices;

namespace MatFormer.Runtime.Tests.Loading;

/// <summary>
/// Any test may be the first to use TorchSharp. In programs with models, generated code calls this, but here no code is generated.
/// </summary>
internal static class TorchInstaller
{
    [ModuleInitializer]
    [SuppressMessage("Usage", "CA2255", Justification = "The library must be found before any test uses TorchSharp.")]
    internal static void Install() => TorchLibrary.Install();
}
