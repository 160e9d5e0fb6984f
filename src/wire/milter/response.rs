//! What a filter answers (`SMFIR_*`).
//!
//! How it fails: reading returns [`MilterError`]; writing is total.

use super::frame::put_frame;
use super::{Data, Frame, MilterError, Negotiation, Stage, Text, put_text};
use std::borrow::Cow;

/// One answer. Those that change a message come before the one that decides.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Response<'a> {
    /// What it takes of our offer.
    Negotiated(Negotiation<'a>),
    /// Go on.
    Continue,
    /// Take it and ask no more: the connection, or from MAIL on the message.
    Accept,
    /// Refuse for good: the connection, the message, or one recipient.
    Reject,
    /// Refuse for now.
    TempFail,
    /// Take the message and throw it away.
    Discard,
    /// This text is the reply, `550 5.7.1 text`.
    Reply(Text<'a>),
    /// No more of this kind in this message.
    Skip,
    /// Still at work: the time limit begins anew.
    Progress,
    /// The connection is to fail.
    ConnectionFailure,
    /// The session ends with 421.
    Shutdown,
    /// One more recipient.
    AddRecipient(Text<'a>),
    /// One more recipient with ESMTP parameters.
    AddRecipientParameters {
        /// The path.
        path: Text<'a>,
        /// Its parameters, if there are any.
        parameters: Option<Text<'a>>,
    },
    /// One recipient less.
    DeleteRecipient(Text<'a>),
    /// The next piece of another body.
    ReplaceBody(Cow<'a, [u8]>),
    /// Another envelope sender.
    ChangeSender {
        /// The path.
        path: Text<'a>,
        /// Its parameters, if there are any.
        parameters: Option<Text<'a>>,
    },
    /// A field at the end of the header section.
    AddHeader {
        /// Its name.
        name: Text<'a>,
        /// Its value.
        value: Text<'a>,
    },
    /// A field at a place; the Received field of the server itself is number 0.
    InsertHeader {
        /// The place.
        index: u32,
        /// Its name.
        name: Text<'a>,
        /// Its value.
        value: Text<'a>,
    },
    /// Another value for a field; an empty one removes it.
    ChangeHeader {
        /// Which field of this name, from 1.
        index: u32,
        /// Its name.
        name: Text<'a>,
        /// Its value.
        value: Text<'a>,
    },
    /// Keep the message aside, for this reason.
    Quarantine(Text<'a>),
    /// The macros wanted at a stage.
    Symbols(Stage, Text<'a>),
}

impl<'a> Response<'a> {
    /// Appends it as a frame.
    pub fn put(&self, out: &mut Vec<u8>) {
        let path_and = |path: &Text<'_>, parameters: &Option<Text<'_>>, out: &mut Vec<u8>| {
            put_text(out, path);
            parameters.iter().for_each(|text| put_text(out, text));
        };
        let field = |name: &Text<'_>, value: &Text<'_>, out: &mut Vec<u8>| {
            put_text(out, name);
            put_text(out, value);
        };
        match self {
            Response::Negotiated(answer) => put_frame(out, b'O', |out| answer.put(out)),
            Response::Continue => put_frame(out, b'c', |_| ()),
            Response::Accept => put_frame(out, b'a', |_| ()),
            Response::Reject => put_frame(out, b'r', |_| ()),
            Response::TempFail => put_frame(out, b't', |_| ()),
            Response::Discard => put_frame(out, b'd', |_| ()),
            Response::Reply(text) => put_frame(out, b'y', |out| put_text(out, text)),
            Response::Skip => put_frame(out, b's', |_| ()),
            Response::Progress => put_frame(out, b'p', |_| ()),
            Response::ConnectionFailure => put_frame(out, b'f', |_| ()),
            Response::Shutdown => put_frame(out, b'4', |_| ()),
            Response::AddRecipient(path) => put_frame(out, b'+', |out| put_text(out, path)),
            Response::AddRecipientParameters { path, parameters } => {
                put_frame(out, b'2', |out| path_and(path, parameters, out));
            }
            Response::DeleteRecipient(path) => put_frame(out, b'-', |out| put_text(out, path)),
            Response::ReplaceBody(octets) => put_frame(out, b'b', |out| out.extend_from_slice(octets)),
            Response::ChangeSender { path, parameters } => put_frame(out, b'e', |out| path_and(path, parameters, out)),
            Response::AddHeader { name, value } => put_frame(out, b'h', |out| field(name, value, out)),
            Response::InsertHeader { index, name, value } => put_frame(out, b'i', |out| {
                out.extend_from_slice(&index.to_be_bytes());
                field(name, value, out);
            }),
            Response::ChangeHeader { index, name, value } => put_frame(out, b'm', |out| {
                out.extend_from_slice(&index.to_be_bytes());
                field(name, value, out);
            }),
            Response::Quarantine(reason) => put_frame(out, b'q', |out| put_text(out, reason)),
            Response::Symbols(stage, names) => put_frame(out, b'l', |out| {
                out.extend_from_slice(&(*stage as u32).to_be_bytes());
                put_text(out, names);
            }),
        }
    }

    /// Reads a frame.
    pub fn parse(frame: Frame<'a>) -> Result<Response<'a>, MilterError> {
        let mut data = Data::of(frame);
        let response = match frame.code {
            b'O' => Response::Negotiated(Negotiation::read(&mut data)?),
            b'c' => Response::Continue,
            b'a' => Response::Accept,
            b'r' => Response::Reject,
            b't' => Response::TempFail,
            b'd' => Response::Discard,
            b'y' => Response::Reply(data.text()?),
            b's' => Response::Skip,
            b'p' => Response::Progress,
            b'f' => Response::ConnectionFailure,
            b'4' => Response::Shutdown,
            b'+' => Response::AddRecipient(data.text()?),
            b'2' => Response::AddRecipientParameters { path: data.text()?, parameters: optional(&mut data)? },
            b'-' => Response::DeleteRecipient(data.text()?),
            b'b' => Response::ReplaceBody(Cow::Borrowed(data.all())),
            b'e' => Response::ChangeSender { path: data.text()?, parameters: optional(&mut data)? },
            b'h' => Response::AddHeader { name: data.text()?, value: data.text()? },
            b'i' => Response::InsertHeader { index: data.u32()?, name: data.text()?, value: data.text()? },
            b'm' => Response::ChangeHeader { index: data.u32()?, name: data.text()?, value: data.text()? },
            b'q' => Response::Quarantine(data.text()?),
            b'l' => {
                let stage = Stage::of_number(data.u32()?).ok_or(MilterError::Value(frame.code))?;
                Response::Symbols(stage, data.text()?)
            }
            other => return Err(MilterError::Unknown(other)),
        };
        data.end()?;
        Ok(response)
    }
}

fn optional<'a>(data: &mut Data<'a>) -> Result<Option<Text<'a>>, MilterError> {
    if data.rest.is_empty() { Ok(None) } else { data.text().map(Some) }
}
