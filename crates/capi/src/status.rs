//! Status codes, the message that goes with one, and what the errors of all layers become. Used by all entry points.

use aio::backend::DeviceError;
use aio::devices::RegistryError;
use aio::engine::EngineError;
use aio::model::ModelError;
use aio::model::gguf::GgufError;
use aio::plan::artefact::ArtefactError;
use std::ffi::c_char;

/// What a call says of its outcome; `aio_status` in C.
#[repr(i32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// It did what was asked.
    Ok = 0,
    /// A parameter is out of range, null, of an unknown size, or does not fit the others.
    InvalidArgument = 1,
    /// A handle is null, was freed, or is of another kind.
    InvalidHandle = 2,
    /// Another thread uses the object, or a callback asks for what its own call holds.
    Busy = 3,
    /// There is not enough memory.
    OutOfMemory = 4,
    /// The device, the model or this version of the library cannot do it.
    Unsupported = 5,
    /// A file cannot be read or written.
    Io = 6,
    /// A model, artefact, graph or text is malformed.
    Format = 7,
    /// The device failed.
    Device = 8,
    /// The KV cache, the slots of recurrent state or the batch is full. It works again when a sequence gives something back.
    Full = 9,
    /// The recurrent state at that length was not kept.
    NotRestorable = 10,
    /// A row's logits are NaN or infinite, so it has no token.
    NoToken = 11,
    /// The caller's buffer is too small; the size needed was written.
    BufferTooSmall = 12,
    /// A fault of the library, which caught it. The object that was called may be damaged; free it.
    Internal = 13,
}

impl Status {
    /// All, in order.
    pub const ALL: [Status; 14] = [
        Status::Ok,
        Status::InvalidArgument,
        Status::InvalidHandle,
        Status::Busy,
        Status::OutOfMemory,
        Status::Unsupported,
        Status::Io,
        Status::Format,
        Status::Device,
        Status::Full,
        Status::NotRestorable,
        Status::NoToken,
        Status::BufferTooSmall,
        Status::Internal,
    ];

    /// Its name in C without the prefix, ended by a zero byte.
    pub fn name(self) -> &'static std::ffi::CStr {
        match self {
            Status::Ok => c"OK",
            Status::InvalidArgument => c"INVALID_ARGUMENT",
            Status::InvalidHandle => c"INVALID_HANDLE",
            Status::Busy => c"BUSY",
            Status::OutOfMemory => c"OUT_OF_MEMORY",
            Status::Unsupported => c"UNSUPPORTED",
            Status::Io => c"IO",
            Status::Format => c"FORMAT",
            Status::Device => c"DEVICE",
            Status::Full => c"FULL",
            Status::NotRestorable => c"NOT_RESTORABLE",
            Status::NoToken => c"NO_TOKEN",
            Status::BufferTooSmall => c"BUFFER_TOO_SMALL",
            Status::Internal => c"INTERNAL",
        }
    }
}

/// A status other than OK, and its message.
#[derive(Clone, Debug)]
pub(crate) struct Failure {
    pub status: Status,
    pub message: String,
}

impl Failure {
    pub fn new(status: Status, message: impl Into<String>) -> Failure {
        Failure { status, message: message.into() }
    }

    pub fn argument(message: impl Into<String>) -> Failure {
        Failure::new(Status::InvalidArgument, message)
    }

    /// Of an object that is in use.
    pub fn busy(what: &str) -> Failure {
        Failure::new(
            Status::Busy,
            format!("the {what} is in use by another thread, or by the call that this one is made from"),
        )
    }
}

/// The result of a call in Rust's form.
pub(crate) type Outcome<T = ()> = Result<T, Failure>;

/// An error message in memory of the caller; `aio_error` in C.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Error {
    /// Size of this struct in bytes, set by the caller.
    pub struct_size: u32,
    /// The status that the call returned.
    pub status: i32,
    /// The message in UTF-8, ended by a zero byte; cut at a character if it is longer.
    pub message: [c_char; 504],
}

impl From<EngineError> for Failure {
    fn from(error: EngineError) -> Failure {
        let status = match &error {
            EngineError::Model(e) => of_model(e),
            EngineError::Verify(_) | EngineError::Logits { .. } | EngineError::PageSizes { .. } => Status::Format,
            EngineError::Compile(_) => Status::Unsupported,
            EngineError::Device(e) => of_device(e),
            EngineError::Artefact(e) => of_artefact(e),
            EngineError::Memory { .. } => Status::OutOfMemory,
            EngineError::BatchFull { .. } | EngineError::PoolFull { .. } | EngineError::SlotsFull { .. } => {
                Status::Full
            }
            EngineError::NoState { .. } => Status::NotRestorable,
            EngineError::NoToken { .. } => Status::NoToken,
            EngineError::Reentered => Status::Busy,
            EngineError::NoHidden => Status::Unsupported,
            EngineError::ContextOverflow { .. }
            | EngineError::EmptyPrompt
            | EngineError::Token { .. }
            | EngineError::StepSize { .. }
            | EngineError::Spans { .. }
            | EngineError::NotReserved { .. }
            | EngineError::SharedPage { .. }
            | EngineError::NotNext { .. }
            | EngineError::Drafts { .. }
            | EngineError::ForeignSequence { .. }
            | EngineError::DraftModel { .. }
            | EngineError::Option { .. } => Status::InvalidArgument,
        };
        Failure::new(status, error.to_string())
    }
}

impl From<ModelError> for Failure {
    fn from(error: ModelError) -> Failure {
        Failure::new(of_model(&error), error.to_string())
    }
}

impl From<RegistryError> for Failure {
    fn from(error: RegistryError) -> Failure {
        let status = match &error {
            RegistryError::Device(e) => of_device(e),
            RegistryError::UnknownDevice { .. }
            | RegistryError::UnknownOption { .. }
            | RegistryError::OptionValue { .. } => Status::InvalidArgument,
            _ => Status::Unsupported,
        };
        Failure::new(status, error.to_string())
    }
}

impl From<ArtefactError> for Failure {
    fn from(error: ArtefactError) -> Failure {
        Failure::new(of_artefact(&error), error.to_string())
    }
}

impl From<GgufError> for Failure {
    fn from(error: GgufError) -> Failure {
        Failure::new(of_gguf(&error), error.to_string())
    }
}

fn of_gguf(error: &GgufError) -> Status {
    match error {
        GgufError::InFile { source, .. } => of_gguf(source),
        GgufError::Map(_) => Status::Io,
        _ => Status::Format,
    }
}

fn of_model(error: &ModelError) -> Status {
    match error {
        ModelError::Gguf(e) => of_gguf(e),
        ModelError::NoTemplate { .. } | ModelError::NoSafetensors { .. } => Status::Unsupported,
        _ => Status::Format,
    }
}

fn of_artefact(error: &ArtefactError) -> Status {
    match error {
        ArtefactError::Read { .. } | ArtefactError::Map(_) | ArtefactError::Write { .. } => Status::Io,
        ArtefactError::Version { .. } | ArtefactError::ByteOrder | ArtefactError::Form { .. } => Status::Unsupported,
        ArtefactError::Stale { .. } => Status::Unsupported,
        _ => Status::Format,
    }
}

fn of_device(error: &DeviceError) -> Status {
    match error {
        DeviceError::OutOfMemory { .. } => Status::OutOfMemory,
        DeviceError::Unsupported { .. }
        | DeviceError::NoImage { .. }
        | DeviceError::NoBurst { .. }
        | DeviceError::NoTrace { .. }
        | DeviceError::Unavailable { .. } => Status::Unsupported,
        DeviceError::Weight { .. } | DeviceError::Image(_) => Status::Format,
        DeviceError::ImageRead(_) => Status::Io,
        DeviceError::Binding { .. } | DeviceError::EmptyAxis { .. } | DeviceError::ForeignHandle => {
            Status::InvalidArgument
        }
        DeviceError::Failed(_) => Status::Device,
    }
}

// SAFETY: integers and bytes.
unsafe impl bytemuck::Zeroable for Error {}
