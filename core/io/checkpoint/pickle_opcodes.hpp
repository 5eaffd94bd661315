// The opcodes of Python's pickle, protocols 0 to 5 (Python's pickletools describes each).
#pragma once

#include <string>

namespace dkdm::io::pickle {

enum Opcode : unsigned char {
  kMark = '(',
  kStop = '.',
  kProto = 0x80,
  kFrame = 0x95,
  kPop = '0',
  kPopMark = '1',
  kDup = '2',
  kNone = 'N',
  kNewTrue = 0x88,
  kNewFalse = 0x89,
  kBinInt = 'J',
  kBinInt1 = 'K',
  kBinInt2 = 'M',
  kLong1 = 0x8a,
  kLong4 = 0x8b,
  kBinFloat = 'G',
  kInt = 'I',
  kLong = 'L',
  kFloat = 'F',
  kString = 'S',
  kUnicode = 'V',  // lines of protocol 0
  kBinUnicode = 'X',
  kShortBinUnicode = 0x8c,
  kBinUnicode8 = 0x8d,
  kBinString = 'T',
  kShortBinString = 'U',  // of Python 2
  kBinBytes = 'B',
  kShortBinBytes = 'C',
  kBinBytes8 = 0x8e,
  kByteArray8 = 0x96,
  kNextBuffer = 0x97,
  kReadonlyBuffer = 0x98,
  kEmptyList = ']',
  kList = 'l',
  kAppend = 'a',
  kAppends = 'e',
  kEmptyDict = '}',
  kDict = 'd',
  kSetItem = 's',
  kSetItems = 'u',
  kEmptySet = 0x8f,
  kAddItems = 0x90,
  kFrozenSet = 0x91,
  kEmptyTuple = ')',
  kTuple = 't',
  kTuple1 = 0x85,
  kTuple2 = 0x86,
  kTuple3 = 0x87,
  kPut = 'p',
  kGet = 'g',
  kBinPut = 'q',
  kLongBinPut = 'r',
  kMemoize = 0x94,
  kBinGet = 'h',
  kLongBinGet = 'j',
  kExt1 = 0x82,
  kExt2 = 0x83,
  kExt4 = 0x84,
  kGlobal = 'c',
  kStackGlobal = 0x93,
  kReduce = 'R',
  kBuild = 'b',
  kNewObj = 0x81,
  kNewObjEx = 0x92,
  kInst = 'i',
  kObj = 'o',
  kPersId = 'P',
  kBinPersId = 'Q'
};

// "the opcode 0x0a".
inline std::string opcode_name(unsigned char opcode) {
  constexpr char digits[] = "0123456789abcdef";
  return std::string("the opcode 0x") + digits[opcode >> 4] + digits[opcode & 15];
}

}  // namespace dkdm::io::pickle
