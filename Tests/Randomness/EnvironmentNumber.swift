import Glibc

/// A number that is set in the environment: how much of a random test is to be done.
public func environmentNumber(_ name: String) -> Int? { getenv(name).flatMap { Int(String(cString: $0)) } }
