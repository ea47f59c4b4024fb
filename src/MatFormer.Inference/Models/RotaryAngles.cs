namespace MatFormer;

/// <summary>The angles of rotary position embedding (RoFormer, arXiv 2104.09864).</summary>
internal static class RotaryAngles
{
    /// <summary>Passes the cosine and sine of every position and pair to <paramref name="set"/>.</summary>
    public static void Fill(
        int context, int headWidth, double rotaryBase, RotaryScaling? scaling, Action<int, int, float, float> set)
    {
        for (var pair = 0; pair < headWidth / 2; pair++)
        {
            var frequency = Frequency(headWidth, rotaryBase, pair);
            if (scaling is not null) frequency /= scaling.Divisor(frequency);
            for (var position = 0; position < context; position++)
                set(position, pair, (float)Math.Cos(position * frequency), (float)Math.Sin(position * frequency));
        }
    }

    /// <summary>Returns the frequency of a pair, in radians per token, before scaling.</summary>
    public static double Frequency(int headWidth, double rotaryBase, int pair) => Math.Pow(rotaryBase, -2.0 * pair / headWidth);
}
