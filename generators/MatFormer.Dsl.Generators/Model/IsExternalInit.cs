using System.ComponentModel;

namespace System.Runtime.CompilerServices;

/// <summary>A type that records need and netstandard2.0 does not have.</summary>
[EditorBrowsable(EditorBrowsableState.Never)]
internal static class IsExternalInit;
