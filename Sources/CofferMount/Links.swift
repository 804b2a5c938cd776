import CofferFormat
import CofferVault

/// One name by which an inode is reached.
struct Link {
    let parent: Inode
    /// The stored name in the parent.
    let stored: StoredName
    /// The plaintext name, for messages and for the ids of directories.
    let name: [UInt8]
    /// The id that a directory's place here derives.
    var derived: DirectoryID?
}

/// An inode's names, the one that was found last first. Nearly all inodes have one, and no memory but the inode's own is taken for that.
enum Links: RandomAccessCollection {
    case none
    case one(Link)
    /// Two at least.
    case several([Link])

    init(_ links: some Collection<Link>) {
        switch links.count {
        case 0: self = .none
        case 1: self = links.first.map { .one($0) } ?? .none
        default: self = .several(Array(links))
        }
    }

    var startIndex: Int { 0 }

    var endIndex: Int {
        switch self {
        case .none: 0
        case .one: 1
        case .several(let links): links.count
        }
    }

    subscript(position: Int) -> Link {
        switch self {
        case .none: preconditionFailure("there is no name")
        case .one(let link):
            precondition(position == 0, "there is one name")
            return link
        case .several(let links): return links[position]
        }
    }

    mutating func removeAll(where isGone: (Link) -> Bool) {
        // As a rule nothing is.
        if contains(where: isGone) { self = Links(filter { !isGone($0) }) }
    }

    mutating func putFirst(_ link: Link) { self = isEmpty ? .one(link) : .several([link] + self) }
}
