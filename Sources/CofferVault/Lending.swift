extension Unmanaged {
    /// Lends the object, which somebody else keeps for as long as `body` runs: no reference is counted.
    ///
    /// What is reached through a class's property is retained and released around each use else, and on the hot path, where threads share these objects, that takes
    /// longer than what it is for.
    @inlinable
    @inline(__always)
    public func lend<Result, Failure: Error>(
        _ body: (Instance) throws(Failure) -> Result
    ) throws(Failure) -> Result {
        try _withUnsafeGuaranteedRef { instance in
            Swift.Result { () throws(Failure) in try body(instance) }
        }.get()
    }
}
