namespace MatFormer.Generators.Model;

/// <summary>Which class the code is for.</summary>
/// <param name="Namespace">Its namespace, empty if it has none.</param>
/// <param name="Enclosing">The types it is nested in, outermost first, each as a head such as <c>partial class Outer</c>.</param>
/// <param name="Name">Its name.</param>
/// <param name="HintName">
/// What the names of its files begin with: all names, joined by dots, and a hash if another type has the same names but for their case.
/// </param>
/// <param name="HiddenNames">
/// Last names of types that mean something else where the class is declared, and so must be written in full.
/// </param>
/// <param name="HasTensors">
/// Whether the project references the runtime, and with it TorchSharp. Without it nothing is emitted that needs tensors.
/// </param>
internal sealed record TypeSpec(
    string Namespace, EquatableArray<string> Enclosing, string Name, string HintName, EquatableArray<string> HiddenNames,
    bool HasTensors = true)
{
    /// <summary>The name of the outermost type.</summary>
    public string Outermost => Enclosing.Count == 0 ? Name : Enclosing[0].Substring(Enclosing[0].LastIndexOf(' ') + 1).TrimStart('@');
}
