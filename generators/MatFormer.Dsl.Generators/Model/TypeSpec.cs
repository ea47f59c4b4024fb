namespace MatFormer.Generators.Model;

/// <summary>The class that code is generated for.</summary>
/// <param name="Namespace">The namespace of the class, or empty.</param>
/// <param name="Enclosing">The types around the class, outermost first, each as a declaration such as <c>partial class Outer</c>.</param>
/// <param name="Name">The name of the class.</param>
/// <param name="HintName">
/// The beginning of the names of generated files: namespace, enclosing types and class, joined by dots. A hash is added if the name of
/// another type differs only in case.
/// </param>
/// <param name="HiddenNames">
/// The short names of types that mean something else where the class is declared. Generated code writes the full names of these types.
/// </param>
/// <param name="HasTensors">
/// True if the project references the runtime, and with it TorchSharp. Otherwise, the generated code contains nothing that needs tensors.
/// </param>
internal sealed record TypeSpec(
    string Namespace, EquatableArray<string> Enclosing, string Name, string HintName, EquatableArray<string> HiddenNames,
    bool HasTensors = true)
{
    /// <summary>The name of the outermost type.</summary>
    public string Outermost => Enclosing.Count == 0 ? Name : Enclosing[0].Substring(Enclosing[0].LastIndexOf(' ') + 1).TrimStart('@');
}
