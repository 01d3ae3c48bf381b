//! What a sharer answers to a receiver that asks by the socket: one byte. [`Answer::Here`] comes
//! with two descriptors, the proof and the file, and with those of what a region has besides.

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Answer {
    Here,
    Used,
    Closed,
    Altered,
    Unknown,
    Shrunk,
    /// What comes with the file could not be made.
    Failed,
}

impl Answer {
    const ALL: [Self; 7] = [
        Self::Here,
        Self::Used,
        Self::Closed,
        Self::Altered,
        Self::Unknown,
        Self::Shrunk,
        Self::Failed,
    ];

    pub(super) fn to_byte(self) -> u8 {
        self as u8
    }

    /// `None`: no answer of this version.
    pub(super) fn from_byte(byte: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|answer| answer.to_byte() == byte)
    }
}
