import CFuse
import CofferCrypto
import CofferVault
import Glibc

/// The thread that answers where data and holes of a file are while somebody may write to it.
///
/// The kernel asks without handing over what it has not written back yet, so that fresh data would be called a hole. Told to forget the file's pages, it first
/// writes those that are dirty; a serving thread that waited for this could wait for itself, so it is done here, one question at a time.
final class Seeker: @unchecked Sendable {
    private struct Question {
        let request: fuse_req_t?
        /// Retained.
        let handle: Unmanaged<FileHandle>
        let offset: Int
        let whence: Int32
    }

    private let mutex = UnsafeMutablePointer<pthread_mutex_t>.allocate(capacity: 1)
    private let condition = UnsafeMutablePointer<pthread_cond_t>.allocate(capacity: 1)
    // Guarded by the mutex.
    private var questions: [Question] = []
    private var isStopped = false

    init() {
        mutex.initialize(to: pthread_mutex_t())
        pthread_mutex_init(mutex, nil)
        condition.initialize(to: pthread_cond_t())
        pthread_cond_init(condition, nil)
    }

    deinit {
        pthread_cond_destroy(condition)
        pthread_mutex_destroy(mutex)
        condition.deallocate()
        mutex.deallocate()
    }

    /// Leaves a question to the thread, which answers it.
    func ask(_ request: fuse_req_t?, _ handle: FileHandle, _ offset: Int, _ whence: Int32) {
        pthread_mutex_lock(mutex)
        let isAccepted = !isStopped
        if isAccepted {
            questions.append(
                Question(request: request, handle: .passRetained(handle), offset: offset, whence: whence))
            pthread_cond_signal(condition)
        }
        pthread_mutex_unlock(mutex)
        if !isAccepted { FuseRequest.reply(request, error: ENOTCONN) }
    }

    /// Answers questions until `stop`.
    func run(_ fileSystem: FileSystem) {
        let scratch: Scratch
        do throws(CryptoError) {
            scratch = try Scratch()
        } catch {
            fileSystem.log.warning("no memory for a thread")
            return refuse()
        }
        while let question = next() {
            let handle = question.handle.takeRetainedValue()
            // An error leaves pages that could not be written where they are: the next fsync tells of them.
            fuse_lowlevel_notify_inval_inode(fileSystem.session, handle.inode.nodeID, 0, 0)
            Self.answer(question.request, fileSystem, handle, question.offset, question.whence, scratch)
        }
    }

    /// Ends `run` once every question is answered.
    func stop() {
        pthread_mutex_lock(mutex)
        isStopped = true
        pthread_cond_broadcast(condition)
        pthread_mutex_unlock(mutex)
    }

    /// Answers nothing any more.
    private func refuse() {
        stop()
        while let question = next() {
            question.handle.release()
            FuseRequest.reply(question.request, error: EIO)
        }
    }

    private func next() -> Question? {
        pthread_mutex_lock(mutex)
        defer { pthread_mutex_unlock(mutex) }
        while questions.isEmpty && !isStopped { pthread_cond_wait(condition, mutex) }
        return questions.isEmpty ? nil : questions.removeFirst()
    }

    /// Answers an lseek(2) with SEEK_DATA (3) or SEEK_HOLE (4) from what the driver has.
    static func answer(
        _ request: fuse_req_t?, _ fileSystem: FileSystem, _ handle: FileHandle, _ offset: Int, _ whence: Int32,
        _ scratch: Scratch
    ) {
        FuseRequest.run(request, fileSystem, handle.inode) { () throws(VaultError) in
            let result: Int?
            switch whence {
            case 3: result = try handle.contents.nextData(from: offset, scratch)
            case 4: result = try handle.contents.nextHole(from: offset, scratch)
            default: throw .system(.invalidArgument)
            }
            guard let result else { throw .system(.noSuchAddressOrDevice) }
            fuse_reply_lseek(request, result)
        }
    }
}
